"""The gated activation of GLM's feed-forward layers."""

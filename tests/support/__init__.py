"""What several tests share: fakes at the seams, servers, clients, small checkpoints."""

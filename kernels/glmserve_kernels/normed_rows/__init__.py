"""Reading rows for a product, normed or as they are."""

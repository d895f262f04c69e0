"""The pages, one router for each group of them."""

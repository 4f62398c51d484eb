"""What the end-to-end scripts share: processes that always end, checks that count, the proxy, the load."""

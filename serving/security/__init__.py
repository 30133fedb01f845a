"""Who may come in and do what: TLS, tokens with roles, and how a client shows who it is. See docs/security.md."""

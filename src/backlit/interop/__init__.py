"""Where other frameworks are met: each module here imports one, and nothing else of the package imports these."""

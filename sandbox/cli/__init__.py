"""`yunei`: the bureau's command line. One module per noun; tables for people, `--json` for scripts."""

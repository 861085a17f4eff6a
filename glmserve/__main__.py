"""`python -m glmserve` is the `glmserve` command."""

from glmserve.cli.main import main

if __name__ == "__main__":
    main()

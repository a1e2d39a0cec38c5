"""Whether this is `make soak`, in which the tests that have a long form run in that."""

import os

SOAK = os.environ.get("SOAK") == "true"

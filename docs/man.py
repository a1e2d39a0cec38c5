"""Renders the manual pages into a directory: python docs/man.py DIRECTORY

makes DIRECTORY/man8/ovl-linkd.8 and so on of the reStructuredText beside this file. Needs docutils.
"""

import sys
from pathlib import Path

from docutils.core import publish_file
from docutils.writers import manpage

HERE = Path(__file__).parent


def main(directory: Path) -> None:
    """Render every page of HERE into DIRECTORY."""
    for source in sorted(HERE.glob("*.[1-8].rst")):
        page = directory / f"man{source.suffixes[-2][1:]}" / source.stem
        page.parent.mkdir(parents=True, exist_ok=True)
        # What docutils would warn about is an error; nothing of this machine is read.
        settings = {
            "halt_level": 2,
            "input_encoding": "utf-8",
            "output_encoding": "utf-8",
            "_disable_config": True,
            "file_insertion_enabled": False,
        }
        publish_file(
            source_path=str(source),
            destination_path=str(page),
            writer=manpage.Writer(),
            settings_overrides=settings,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What the configuration cannot say: a wheel carries the page of errors beside the command line."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithErrors(build_py):
    """Copies ``docs/how-to/errors.md``, which ``chiasm explain`` reads."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            page = Path(__file__).parent / "docs/how-to/errors.md"
            self.copy_file(str(page), str(Path(self.build_lib, "chiasm/cli/errors.md")))


setup(cmdclass={"build_py": BuildWithErrors})

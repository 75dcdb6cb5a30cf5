"""The source distribution has the tests, too: whoever has it can run them."""

from setuptools.command.sdist import sdist


class SourceDistribution(sdist):
    """What setuptools finds by itself, and what only the tests need."""

    def make_distribution(self) -> None:
        """Add the tests, after setuptools listed its files: without them, none can run."""
        self.filelist.graft("tests")
        self.filelist.global_exclude("*.py[cod]")
        self.filelist.append("CHANGES.rst")
        super().make_distribution()

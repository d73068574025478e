"""What has to hold before a change goes in; each session is one promise of CONTRIBUTING.md.

Tools and versions come from pyproject.toml (dependency groups), so that an editor, a person and CI
use the same ones. `nox` alone runs everything that the running interpreter can run.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.11.12"
nox.options.default_venv_backend = "uv|virtualenv"  # uv where it is, because it is faster
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PACKAGE = Path("calls_async")
PYTHONS = [
    classifier.rpartition(" ")[2]
    for classifier in PYPROJECT["project"]["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", classifier)
]
AGAIN = (
    *(f"tests/{folder}" for folder in ("unit", "contract", "edges", "client", "cli")),
    *(f"tests/{folder}" for folder in ("journal", "telemetry", "testing")),
    *(f"tests/engines/test_{name}.py" for name in ("chunks", "dask", "guide", "line")),
    *(
        f"--ignore=tests/{name}.py"
        for name in (
            "cli/test_exits",
            "client/test_cancellation",
            "client/test_endings",
            "client/test_memory",
            "edges/test_resilience",
            "edges/test_secrecy",
            "engines/test_fleet_processes",
            "journal/test_crash",
            # What an old exporter makes of labels that not all points of a metric have is none of
            # ours.
            "telemetry/test_prometheus",
        )
    ),
    "--hypothesis-profile=few",
)
"""What is run once more, with other versions and for the coverage. The properties, the simulation,
the sweeps, and tests that start one process after the other would take minutes, for lines that
these take as well."""
TESTED = ("cli", "dask", "otel", "redis", "speed", "test")
"""The extras whose lowest versions are tested."""
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

nox.options.sessions = [
    "lint", "imports", "types", "api", f"tests-{RUNNING}", "lowest", "examples", "docs", "build",
]  # fmt: skip


def group(name: str) -> tuple[str, ...]:
    """The requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and layout."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def imports(session: nox.Session) -> None:
    """A lower row never imports a higher one."""
    session.install(*group("imports"))
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Two checkers find nothing, and every public name has its whole type."""
    session.install(".[test,otel]", *group("types"))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", PACKAGE.name, "--ignoreexternal")


@nox.session
def api(session: nox.Session) -> None:
    """Nothing public has gone, or has changed its signature, since the last release.

    What is meant to break is named in CHANGELOG.md and is a major version, see the page "What may
    change"; then the session fails until the release is tagged.
    """
    tags = session.run(
        "git", "tag", "--list", "v*", "--merged", "HEAD", "--sort=-version:refname",
        external=True, silent=True, success_codes=(0, 128),  # 128: an sdist is no repository
    )  # fmt: skip
    releases = [tag for tag in str(tags).split() if re.fullmatch(r"v\d+\.\d+\.\d+", tag)]
    if not releases:
        session.log("there is no release yet, so there is nothing that could break")
        return
    session.install(*group("api"))
    session.run("griffe", "check", PACKAGE.name, "--search", ".", "--against", releases[0])


@nox.session(python=PYTHONS, download_python="never")  # a stand-in would hide what is missing
def tests(session: nox.Session) -> None:
    """The tests, on every supported Python."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """The tests, with the lowest version of everything that pyproject.toml allows.

    They take every branch of rows 0 and 1, and 95% of all. That does not depend on the versions,
    and is measured here because the same tests would have to be run for it.
    """
    extras = PYPROJECT["project"]["optional-dependencies"]
    requirements = (
        *PYPROJECT["project"]["dependencies"],
        *(requirement for extra in TESTED for requirement in extras[extra]),
        *group("telemetry"),
    )
    floors = [
        requirement.replace(">=", "==")
        for requirement in requirements
        if ">=" in requirement  # all but the project's own extras
    ]
    # One resolution with ".", so that a floor which another requirement raises is an error here.
    session.install("--editable", ".[test,dask,otel]", *floors, *group("cov"))
    data = {"COVERAGE_FILE": str(Path(session.create_tmp()).resolve() / "coverage")}
    session.run("coverage", "erase", env=data)
    session.run("coverage", "run", "-m", "pytest", *AGAIN, *session.posargs, env=data)
    session.run("coverage", "combine", "--quiet", env=data)
    session.run("coverage", "report", "--fail-under=95", env=data)
    pure = ",".join(f"{module.replace('.', '/')}.py" for module in rows_0_and_1())
    session.run("coverage", "report", f"--include={pure}", "--fail-under=100", env=data)


def rows_0_and_1() -> list[str]:
    """The pure modules, from the import contract that keeps them pure."""
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    return next(c["source_modules"] for c in contracts if c["type"] == "forbidden")


@nox.session
def readers(session: nox.Session) -> None:
    """DuckDB, pandas, polars and Dask read what is written, also as the pages have it."""
    session.install(".[test,parquet,dask]", *group("readers"))
    modules = ("test_readers", "test_render_files", "test_sources")
    tested = [f"tests/journal/{name}.py" for name in modules]
    tested += ["tests/engines/test_readers.py"]
    tested += [f"tests/test_pages.py::test_{page}" for page in ("export", "notebooks")]
    session.run("python", "-m", "pytest", *tested, *session.posargs)


@nox.session
def telemetry(session: nox.Session) -> None:
    """Spans, metrics and logs, through OpenTelemetry's SDK to a receiver; nothing is skipped.

    `lowest` runs the same with the lowest versions. `-- --draw` draws the trace of the docs.
    """
    session.install(".[test,otel]", *group("telemetry"))
    if "--draw" in session.posargs:
        session.run("python", "-m", "tests.telemetry.picture")
        return
    session.run("python", "-m", "pytest", "tests/telemetry", "-W", "error", *session.posargs)


@nox.session
def engines(session: nox.Session) -> None:
    """Jobs on clusters whose processes are killed; ten minutes.

    `-- --short` takes half of one: a single kill. What needs no cluster is run by others as well.
    """
    session.install(".[test,dask]")
    pytest = ("python", "-m", "pytest")
    if "--short" in session.posargs:
        session.run(*pytest, "tests/engines/test_dask_cluster.py", "tests/cli/test_fleet.py")
        return
    session.run(*pytest, "tests/engines", "tests/cli/test_fleet.py")
    session.run(*pytest, "tests/engines", "-m", "slow", "-s")


@nox.session
def examples(session: nox.Session) -> None:
    """The examples of the docs run, with the newest of what they run in and with the lowest.

    `-- --short`: with the newest.
    """
    session.install(".[test]", *group("examples"))
    session.run("python", "-m", "pytest", "tests/examples")
    if "--short" not in session.posargs:
        floors = [requirement.replace(">=", "==") for requirement in group("examples")]
        session.install(".[test]", *floors)
        session.run("python", "-m", "pytest", "tests/examples")


@nox.session
def simulation(session: nox.Session) -> None:
    """What the client learns of server models in virtual time, as the tables of the docs.

    `nox -s simulation -- --plots docs/_static/simulation` draws the pictures instead.
    """
    drawing = "--plots" in session.posargs
    session.install(".[test]", *(group("plots") if drawing else ()))
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """The client against servers of others, in real time; `-- --short`: nginx alone, no table."""
    session.install(".[test]")
    pytest = ("python", "-m", "pytest", "-m", "peer", "-raP")  # -raP: what was skipped, or measured
    if "--short" in session.posargs:
        modules = ("test_nginx", "test_connections", "test_limits", "test_tls")
        session.run(*pytest, *(f"tests/peers/{name}.py" for name in modules))
        return
    session.install("httpbin==0.10.4")
    session.run(*pytest, "tests/peers", env={"CALLS_PEERS_NODE": node_programs(session)})
    session.run("python", "-m", "tests.peers")


def node_programs(session: nox.Session) -> str:
    """A folder with WireMock and Prism, as far as npm can get them; the tests say what is missing.

    No package's own scripts are run: those of Prism's would tell its makers of the installation.
    """
    folder = str(Path(session.create_tmp()).resolve() / "node")
    if shutil.which("npm") is None:
        session.log("there is no npm, so no WireMock and no Prism")
        return folder
    packages = ("wiremock@3.13.2", "@stoplight/prism-cli@5.16.0")
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    anyhow = range(256)  # whatever npm's exit code is: the tests find out what came of it
    command = ("npm", "install", "--prefix", folder, *quiet, *packages)
    session.run(*command, external=True, success_codes=anyhow)
    return folder


@nox.session
def proof(session: nox.Session) -> None:
    """Every fault at every byte, as the table of the docs; an hour. `-- --short` takes a minute."""
    session.install(".[test]")
    session.run("python", "-m", "tests.proof", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Four targets, an hour in all, by what reaches new lines; `-- --seconds 240` for less."""
    session.install(".[test]", "atheris>=3")
    session.run("python", "-m", "tests.proof.fuzzing", *(session.posargs or ("--seconds", "3600")))


@nox.session
def soak(session: nox.Session) -> None:
    """A client that is used for ten minutes holds no more at the end; `-- --minutes 1` for less."""
    session.install(".[test]")
    session.run("python", "-m", "tests.proof.soak", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The library beside its peers, as the tables of the docs; an hour. `-- --short`: a minute.

    A peer that cannot be installed here is a row that says so. The short form has no peers.
    """
    session.install(".[test]")
    if "--short" not in session.posargs:
        anyhow = range(256)  # whatever pip's exit code is: the table says what came of it
        for requirement in group("bench"):
            session.install(requirement, success_codes=anyhow)
    session.run("python", "-m", "benchmarks", *(session.posargs or ("--all",)))


@nox.session
def instructions(session: nox.Session) -> None:
    """What gate and policies cost a call of a healthy server, counted by valgrind's callgrind."""
    session.install(".[test]")
    session.run("python", "-m", "benchmarks.instructions", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """Nine of ten changes to rows 0 and 1 fail a test, and the rest have reasons; an hour.

    `nox -s mutation -- _pace` judges one module, in some minutes.
    """
    session.install(".[test]", *group("mutation"))
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation builds without a warning, and every reference in it leads somewhere."""
    session.install(".[cli]", *group("docs"))
    output = Path("docs/_build/html")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-E", "docs", str(output))
    session.log(f"see {output / 'index.html'}")


@nox.session
def build(session: nox.Session) -> None:
    """What would be published is whole, and runs where nothing else is installed."""
    session.install(*group("build"), *PYPROJECT["build-system"]["requires"])
    dist = Path(session.create_tmp()).resolve() / "dist"
    for old in dist.glob("*"):
        old.unlink()
    # The wheel is made from the sdist, which shows that the sdist is enough to build from.
    # Without isolation: this environment has what the build asks for, and little else.
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist))
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    check_contents(session, wheel, sdist)

    fresh = dist.parent / "fresh"
    session.run("python", "-m", "venv", "--clear", str(fresh))
    scripts = fresh / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(scripts / "python")
    session.run(python, "-m", "pip", "install", "--quiet", f"{wheel}[cli]", external=True)
    with session.chdir(fresh):  # away from the checkout, which would be imported otherwise
        session.run(str(scripts / "calls-async"), "demo", external=True)
    write_bill_of_materials(session, python, dist.parent / f"{wheel.stem}.cdx.json")


def write_bill_of_materials(session: nox.Session, python: str, bill: Path) -> None:
    """What is installed beside the wheel, with versions and licences, as CycloneDX has it."""
    pip = (python, "-m", "pip")
    session.run(*pip, "uninstall", "--quiet", "--yes", "setuptools", "pip", external=True)
    session.run(
        "cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--mc-type", "library",
        "--output-reproducible", "--validate", "--output-file", str(bill), python,
    )  # fmt: skip
    parts = {part["name"] for part in json.loads(bill.read_text("utf-8"))["components"]}
    needed = {re.split(r"[^\w-]", name)[0] for name in PYPROJECT["project"]["dependencies"]}
    if missing := needed - parts:
        session.error(f"the bill of materials lacks {sorted(missing)}")
    session.log(f"see {bill}")


def check_contents(session: nox.Session, wheel: Path, sdist: Path) -> None:
    """The wheel is the package and its licence, the sdist also what tests and documents it."""
    package = {path.as_posix() for path in PACKAGE.rglob("*") if is_source(path)}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {name for name in names if ".dist-info/" not in name}
    if shipped != package:
        session.error(f"the wheel differs from the package by {sorted(shipped ^ package)}")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        session.error("the wheel has no licence")

    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    others = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "llms.txt"}
    others |= {"pyproject.toml", "noxfile.py"}
    tested = {
        path.as_posix()
        for folder in ("tests", "benchmarks", "examples")  # some tests are of these
        for path in Path(folder).rglob("*")
        if is_source(path)
    }
    if missing := (package | others | tested) - names:
        session.error(f"the sdist lacks {sorted(missing)}")


def is_source(path: Path) -> bool:
    """Whether it is a file that somebody wrote."""
    return path.is_file() and path.suffix != ".pyc"

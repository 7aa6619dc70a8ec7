"""The project: one version everywhere, pinned actions, forms that GitHub takes, and documents that hold anywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
CHOOSER = GITHUB / "ISSUE_TEMPLATE" / "config.yml"
FORMS = sorted(set(CHOOSER.parent.glob("*.yml")) - {CHOOSER})
YAML = [*sorted(GITHUB.rglob("*.yml")), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
PROSE = [*sorted(ROOT.glob("*.md")), *sorted(GITHUB.rglob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [*PROSE, *YAML, ROOT / "leaderboard" / "README.md", *sorted((ROOT / "docs").rglob("*.toml"))]
MACHINE_PATH = re.compile(r"""(?:^|[\s`"'(=])(/[A-Za-z][\w.-]*|[A-Za-z]:\\\w+)""", re.MULTILINE)


def name(path):
    return path.relative_to(ROOT).as_posix()


def read_yaml(path):
    return yaml.safe_load(path.read_text("utf-8"))


def read_project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_changelog_package_and_citation_have_one_version():
    released = re.findall(r"^## (\d+\.\d+\.\d+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    citation = read_yaml(ROOT / "CITATION.cff")
    assert released[0] == (citation["version"], str(citation["date-released"]))
    assert released[0][0] == read_project()["version"]


@pytest.mark.parametrize("path", YAML, ids=name)
def test_a_yaml_file_holds_a_table_of_keys(path):
    assert isinstance(read_yaml(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_every_action_is_pinned_to_a_commit_and_names_its_version(path):
    uses = re.findall(r"\buses:\s*(.*)", path.read_text("utf-8"))
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_a_workflow_can_only_read_and_ends(path):
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 and "permissions" not in job for job in workflow["jobs"].values())


def test_hooks_of_others_are_pinned_to_a_commit():
    repos = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert all(re.fullmatch("[0-9a-f]{40}", repo["rev"]) for repo in repos if repo["repo"] != "local")


def test_every_python_version_that_the_package_names_is_tested():
    named = [words.split(" :: ")[-1] for words in read_project()["classifiers"] if ":: Python :: 3." in words]
    assert named == read_yaml(GITHUB / "workflows" / "tests.yml")["jobs"]["readme"]["strategy"]["matrix"]["python"]


@pytest.mark.parametrize("path", FORMS, ids=name)
def test_an_issue_form_has_the_keys_that_github_requires(path):
    form = read_yaml(path)
    assert all(isinstance(form[key], str) and form[key].strip() for key in ("name", "description"))
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields and {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    assert all(field["attributes"]["value"] for field in form["body"] if field["type"] == "markdown")
    assert all(field["attributes"]["options"] for field in fields if field["type"] in ("dropdown", "checkboxes"))
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[\w-]+", id) for id in ids)


def test_issue_forms_have_different_names():
    names = [read_yaml(path)["name"] for path in FORMS]
    assert len(names) == len(set(names)) > 0


def test_each_link_beside_the_issue_forms_is_complete():
    assert all({*link} == {"name", "url", "about"} for link in read_yaml(CHOOSER)["contact_links"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_a_document_names_no_path_of_a_machine(path):
    in_an_image = {"/cache", "/data", "/work"} if path.name == "docker.md" else set()
    allowed = {"/dev"} | in_an_image  # as on any machine
    assert set(MACHINE_PATH.findall(path.read_text("utf-8"))) <= allowed


def test_links_of_the_changelog_lead_to_files():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert targets and all((ROOT / target).exists() for target in targets)

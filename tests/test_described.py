"""A described suite as the specs that it becomes, and the few mistakes that no worked description makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from deeploc_bench_plugins.described import deeploc_find_suite
from PIL import Image

from deeploc_bench.contract.errors import DataError

EDITED = '[[generator]]\nname = "edited"\nsplit = "test"\nimages = "i/{id}.png"\nmasks = "m/{id}.png"\n'
AUTHENTIC = '[[generator]]\nname = "authentic"\nsplit = "test"\nimages = "a/{id}.png"\n'


@pytest.fixture
def described(tmp_path):
    """Return a function from a description's text to its generator datasets."""

    def find(text, suite="some"):
        (tmp_path / "suite.toml").write_text(f'suite = "{suite}"\n{text}')
        return deeploc_find_suite(str(tmp_path / "suite.toml"))

    return find


@pytest.mark.parametrize("name", ["photos", "toml", "suite.json", "suite.toml.bak"])
def test_a_name_of_no_toml_file_is_left_to_others(name):
    assert deeploc_find_suite(name) is None


def test_a_toml_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=f"suite {tmp_path}/none.toml: No such file or directory"):
        deeploc_find_suite(f"{tmp_path}/none.toml")


def test_a_described_suite_is_run_like_the_posters(described, tmp_path):
    edited, authentic = described(EDITED + AUTHENTIC)
    assert (edited.suite, edited.role, authentic.role) == ("some", "standard", "test-only")
    assert (edited.default_model, edited.default_recipe) == ("unetplusplus-resnet50", "poster")
    assert edited.needs_data == f"the folder that {tmp_path}/suite.toml describes"


def test_what_is_said_of_a_generator_is_in_its_spec(described):
    keys = 'role = "test-only"\ninverted_masks = true\nlicense = "CC0"\nreference = "https://example.org"\n'
    keys += 'method = "lama"\n'
    (edited,) = described(EDITED + keys)
    assert (edited.role, edited.inverted_masks, edited.method) == ("test-only", True, "lama")
    assert (edited.license, edited.reference) == ("CC0", "https://example.org")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (EDITED + EDITED, r"needs \[\[generator\]\]s of different names; it has edited, edited"),
        ('[[generator]]\nname = "a"\nsplit = "test"', "generator 'a': needs images, a template such as"),
        ('[[generator]]\nsplit = "test"', r"key 'generator\[0\]': the key 'name' is missing"),
        (EDITED + 'split_ = "x"', r"key 'generator\[0\]': unknown key 'split_'. Did you mean 'split'\?"),
        (EDITED + 'mask_above = "x"', r"key 'generator\[0\].mask_above' is 'x'; expected a number or nothing"),
        (EDITED + "mask_above = 300", "mask_above=300.0; expected 0 to below 255"),
        (EDITED.replace("edited", "authentic") + 'role = "other"', "expected one of standard, test-only"),
    ],
)
def test_a_mistake_is_told_with_the_file_and_the_key(described, tmp_path, text, told):
    with pytest.raises(DataError, match=rf"{tmp_path}/suite.toml.*{told}"):
        described(text)


def test_a_suite_of_a_forbidden_name_is_told_with_what_is_allowed(described, tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}/suite.toml: .*'Some Suite'; expected lower-case letters"):
        described(EDITED, suite="Some Suite")


def test_a_method_of_a_forbidden_name_is_told_with_what_is_allowed(described, tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}/suite.toml: method of .* 'edited' is 'La Ma'; expected lower-"):
        described(EDITED + 'method = "La Ma"')


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), 255).save(root / name, Path(name).suffix.strip(".").replace("JPG", "jpeg"))


TWO = """
[[generator]]
name = "lama"
split = "test"
images = "lama/{folder}/{id}.png"
masks = "masks/{folder}/{id}.png"
[[generator]]
name = "sd"
split = "test"
images = "sd/{folder}/{id}.png"
masks = "masks/{folder}/{id}.png"
"""


def test_folders_of_masks_alone_are_lacking_images_unless_others_use_them_or_they_are_left_out(described, tmp_path):
    tree(tmp_path, "lama/cat/a.png", "sd/dog/b.png", "masks/cat/a.png", "masks/dog/b.png")
    ids = [[one.id for one in part.build(tmp_path)["test"]] for part in described(TWO)]
    assert ids == [["cat_a"], ["dog_b"]]
    one = TWO[: TWO.index('[[generator]]\nname = "sd"')]
    (alone,) = described(one)
    assert [sample.image for sample in alone.build(tmp_path)["test"]][1:] == [tmp_path / "lama/dog/b.png"]
    tree(tmp_path, "lama/dog/b.png")
    (left,) = described(one + 'exclude = "dog/*.png"')
    assert [sample.id for sample in left.build(tmp_path)["test"]] == ["cat_a"]


@pytest.mark.parametrize(
    "template, name", [("set.jpg/{id}.jpg", "set.jpg/x.JPG"), ("{folder}.png/{id}.png", "a.png/x.png")]
)
def test_a_folder_may_be_called_like_an_image(described, tmp_path, template, name):
    tree(tmp_path, name, "masks/x.png", "masks/a/x.png")
    masks = "masks/{folder}/{id}.png" if "{folder}" in template else "masks/{id}.png"
    (part,) = described(f'[[generator]]\nname = "g"\nsplit = "test"\nimages = "{template}"\nmasks = "{masks}"')
    assert [sample.image for sample in part.build(tmp_path)["test"]] == [tmp_path / name]


def test_many_stars_in_a_name_are_soon_through(described, tmp_path):
    tree(tmp_path, f"{'a' * 120}.png", "m.png")
    stars = "*a" * 12 + "*b{id}.png"
    (part,) = described(f'[[generator]]\nname = "g"\nsplit = "test"\nimages = "{stars}"\nmasks = "m/{{id}}.png"')
    with pytest.raises(DataError, match="finds no image"):  # tried in every way, they would take years
        part.build(tmp_path)


def test_what_may_be_lacking_may_lack_its_list(described, tmp_path):
    text = '[[generator]]\nname = "authentic"\noptional = true\nlists = { test = "none.txt" }'
    (part,) = described(text)
    assert part.build(tmp_path) == {}


def test_an_image_that_is_listed_twice_is_told_with_its_sources(described, tmp_path):
    (tmp_path / "t.csv").write_text("image,mask,split,source\na.png,m.png,test,p\na.png,m.png,test,q\n")
    (part,) = described('[[generator]]\nname = "g"\nlists = "t.csv"')
    with pytest.raises(DataError, match="two samples of .*a.png, of sources 'p' and 'q', have one id, 'a'"):
        part.build(tmp_path)


def test_a_list_that_is_not_there_is_told(described, tmp_path):
    (edited,) = described('[[generator]]\nname = "edited"\nlists = { test = "none.txt" }')
    with pytest.raises(
        DataError, match=f"its list 'none.txt' is not in {tmp_path}; mend it, or leave the generator out"
    ):
        edited.build(tmp_path)

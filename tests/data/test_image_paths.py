"""Names of images as programs write them, and the files that they mean."""

import pytest

from jaxgen.data.image_paths import find_image, normal_name


@pytest.fixture
def folder(tmp_path):
    for name in ("scene/images/000.png", "scene/images/001.jpg", "scene/images/002.webp", "photos/7.JPG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    "name, found",
    [
        ("images/000.png", "000.png"),
        ("./images//000", "000.png"),
        ("images\\000.png", "000.png"),
        (".\\images\\001", "001.jpg"),
        ("images/001.png", "001.jpg"),
        ("images/x/../002", "002.webp"),
    ],
)
def test_a_name_is_found_as_other_systems_write_it(folder, name, found):
    assert find_image(folder / "scene", name, None, "x.json") == folder / "scene/images" / found


def test_what_is_not_there_has_its_most_likely_name(folder):
    assert find_image(folder / "scene", "images\\9", None, "x").name == "9.png"
    assert find_image(folder / "scene", "images/9.jpg", None, "x").name == "9.jpg"


def test_several_candidates_are_refused_unless_one_is_a_png(folder):
    (folder / "scene/images/001.webp").touch()
    with pytest.raises(ValueError, match="images/001 could be any of 001.jpg, 001.webp"):
        find_image(folder / "scene", "images/001", None, "x.json")
    (folder / "scene/images/001.png").touch()
    assert find_image(folder / "scene", "images/001", None, "x.json").name == "001.png"


@pytest.mark.parametrize("name", ["../photos/7.JPG", "/etc/passwd", "images/../../photos/7.JPG", "..\\photos\\7.JPG"])
def test_a_file_outside_of_the_folder_needs_the_folder_of_images(folder, name):
    with pytest.raises(ValueError, match=r"x.json: .* is outside of the scene's folder .*--data.images"):
        find_image(folder / "scene", name, None, "x.json")
    if "etc" not in name:
        assert find_image(folder / "scene", name, folder / "photos", "x.json") == folder / "photos/7.JPG"


def test_the_folder_of_images_is_searched_too(folder):
    assert find_image(folder / "scene", "7", folder / "photos", "x.json") == folder / "photos/7.JPG"
    with pytest.raises(ValueError, match="outside of the scene's folder .* and of "):
        find_image(folder / "scene", "../scene/../x.png", folder / "photos", "x.json")


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 300])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match="x.json: .* is not a file's name"):
        normal_name(name, "x.json")


@pytest.mark.parametrize(
    "name",
    ["/disk/me/scene/images/000.png", "C:\\me\\images\\000.png", "file:///D:/a%20b/images/000.png", "/x/images/000"],
)
def test_a_path_of_another_computer_is_found_by_its_end(folder, name):
    assert find_image(folder / "scene", name, None, "x.json") == folder / "scene/images/000.png"
    (folder / "scene/000.png").touch()
    assert find_image(folder / "scene", name, None, "x.json") == folder / "scene/images/000.png"
    with pytest.raises(ValueError, match="outside of the scene's folder"):
        find_image(folder / "scene", name.replace("000", "004"), None, "x.json")


@pytest.mark.parametrize("name", ["../data/input/7.JPG", "/x/7.JPG", "images/7", "C:\\me\\7.jpg", "E:/7"])
def test_the_end_of_a_path_is_enough_in_the_folder_of_images(folder, name):
    assert find_image(folder / "scene", name, folder / "photos", "x.json") == folder / "photos/7.JPG"


def test_a_path_that_is_there_is_never_another_file(folder):
    (folder / "photos/000.png").touch()
    for name in ("../photos/000.png", str(folder / "photos/000.png")):
        (folder / "scene/000.png").touch()
        with pytest.raises(ValueError, match="outside of the scene's folder"):
            find_image(folder / "scene", name, None, "x.json")


def test_escapes_of_a_url(folder):
    (folder / "scene/images/a b.png").touch()
    assert find_image(folder / "scene", "images/a%20b", None, "x").name == "a b.png"
    address = (folder / "scene/images/a b.png").as_uri()
    assert find_image(folder / "scene", address, None, "x").name == "a b.png"
    (folder / "scene/images/a%20b.png").touch()
    assert find_image(folder / "scene", "images/a%20b", None, "x").name == "a%20b.png"
    with pytest.raises(ValueError, match="is not a file's name"):
        find_image(folder / "scene", "images/%00", None, "x")


def test_a_missing_file_of_another_format_keeps_its_suffix(folder):
    assert find_image(folder / "scene", "images/9.HEIC", None, "x").name == "9.HEIC"


@pytest.mark.parametrize("written, stored", [("\u00fc", "u\u0308"), ("u\u0308", "\u00fc")])
def test_accents_are_composed_or_not(folder, written, stored):
    (folder / f"scene/images/{stored}.png").touch()
    assert find_image(folder / "scene", f"images/{written}", None, "x").name == f"{stored}.png"

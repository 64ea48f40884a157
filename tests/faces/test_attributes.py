"""Attribute files: both formats, exact text out, and one clear line for every fault."""

import numpy as np
import pytest

from common.cli import UserError
from faces.attributes import Attributes, format_csv, needs_csv, read_attributes, write_attributes

COLUMNS = ["Black_Hair", "Male", "Young"]
ROWS = {"000001.jpg": [1, 0, 1], "000002.jpg": [0, 0, 0], "000003.jpg": [0, 1, 1]}
TEXT = "3\nBlack_Hair Male Young \n000001.jpg  1 -1  1\n000002.jpg -1 -1 -1\n000003.jpg -1  1  1\n"
CSV = "image_id,Black_Hair,Male,Young\n000001.jpg,1,-1,1\n000002.jpg,-1,-1,-1\n000003.jpg,-1,1,1\n"


def write(tmp_path, text, name="list_attr_celeba.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        CSV,
        TEXT.replace("\n", "\r\n"),
        TEXT.rstrip(),
        TEXT.replace("-1", "0"),
        CSV.replace("-1", "0"),
        CSV.replace(",", ";"),
        CSV.replace("image_id", "photo"),
        "\ufeff" + CSV,
        TEXT.replace(" ", "\t"),
        CSV.replace("000001.jpg", '"000001.jpg"'),
        TEXT + "\n\n",
        TEXT.split("\n", 1)[1],
        TEXT.replace("Black_Hair", "image_id Black_Hair"),
        TEXT + "\x1a",
        TEXT.replace("\n", " \t\r\n"),
        "\ufeff" + TEXT.replace("\n", "\r\n"),
        "sep=;\n" + CSV.replace(",", ";"),
        # of pandas: an index column, numbers as floats, truth values
        ",image_id,Black_Hair,Male,Young\n" + "".join(f"{i},{r}\n" for i, r in enumerate(CSV.split()[1:])),
        "Unnamed: 0,image_id,Black_Hair,Male,Young\n"
        + "".join(f"{i},{r}\n" for i, r in enumerate(CSV.split()[1:])),
        "\timage_id\tBlack_Hair\tMale\tYoung\n"
        + "".join(f"{i}\t{r}\n".replace(",", "\t") for i, r in enumerate(CSV.split()[1:])),
        CSV.replace("-1", "-1.0").replace(",1", ",1.0"),
        CSV.replace("-1", "False").replace(",1", ",True"),
        TEXT.replace("-1", "false").replace(" 1", " true"),
    ],
)
def test_every_form_of_the_file_reads_the_same(tmp_path, text):
    found = read_attributes(write(tmp_path, text))
    assert found.names == list(ROWS) and found.columns == COLUMNS
    assert found.values.dtype == np.int8 and found.values.tolist() == list(ROWS.values())


def test_written_file_is_the_official_text(tmp_path):
    path = tmp_path / "out.txt"
    write_attributes(path, Attributes(list(ROWS), COLUMNS, np.array(list(ROWS.values()), np.int8)))
    assert path.read_text() == TEXT.replace("Young ", "Young")
    with pytest.raises(UserError, match="white space"):
        write_attributes(path, Attributes(["my photo.jpg"], ["Male"], np.ones((1, 1), np.int8)))
    assert path.read_text().startswith("3\n") and len(list(tmp_path.iterdir())) == 1


def test_columns_are_looked_up_by_name(tmp_path):
    labels = read_attributes(write(tmp_path, TEXT)).select(["Young", "Black_Hair"])
    assert str(labels.dtype) == "torch.float32" and labels.tolist() == [[1, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    "text, said",
    [
        (TEXT.replace("3\n", "202599\n", 1), r"line 1 announces 202599 rows, found 3"),
        (
            TEXT.replace("Black_Hair Male Young \n", ""),
            r"line 2: found the row 000001.jpg .*expected the header",
        ),
        ("\n".join(TEXT.split("\n")[2:]), r"line 1: found the row 000001.jpg .*expected the header"),
        (CSV.split("\n", 1)[1], r"line 1: found the row 000001.jpg .*expected the header"),
        ("3\n", "line 2: found nothing, expected the header"),
        ("0\nMale Young\n", "header but no rows"),
        (TEXT.replace("000002.jpg -1 -1 -1", "000002.jpg -1 -1"), r"line 4: found 2 values, expected 3"),
        (TEXT.replace("000002.jpg -1 -1 -1", "000002.jpg -1 -1 -1 1"), r"line 4: found 4 values, expected 3"),
        (
            TEXT.replace("000002.jpg -1 -1 -1", "000002.jpg -1 -1\n 1").replace("3\n", "4\n", 1),
            r"line 4: found 2 values, expected 3",
        ),
        (CSV.replace("000003.jpg,-1,", "000003.jpg,,"), r"line 4: found 2 values, expected 3"),
        (
            TEXT.replace("000003.jpg -1  1", "000003.jpg -1  2"),
            r"line 5: found '2' for Male, expected -1 or 1",
        ),
        (TEXT.replace("000003.jpg -1  1", "000003.jpg -1  -"), r"line 5: found '-' for Male"),
        (TEXT.replace("000003.jpg -1  1  1", "000003.jpg -1  1 11"), r"line 5: found '11' for Young"),
        (TEXT.replace("000003.jpg -1  1  1", "000003.jpg -1  1 -0"), r"line 5: found '-0' for Young"),
        (CSV.replace("000001.jpg,1", "000001.jpg,yes"), r"line 2: found 'yes' for Black_Hair"),
        (TEXT.replace("000003.jpg", "000001.jpg"), r"line 5: 000001.jpg has a row already, line 3"),
        ("000001.jpg 2880\n000002.jpg 2937\n", "line 1: found the row 000001.jpg 2880 .*expected the header"),
        (
            CSV.replace("-1", "-1.0").split("\n", 1)[1],
            "line 1: found the row 000001.jpg .*expected the header",
        ),
        (TEXT.replace("Young", "Male"), r"line 2: the header names 'Male' twice"),
        ("", "empty"),
        ("<!DOCTYPE html><title>Quota</title>", "HTML page"),
        (TEXT.encode("utf-16"), "not a text file"),
        (b"\x89PNG\r\n\0\0", "not a text file"),
    ],
)
def test_every_fault_is_one_line_with_path_and_place(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=said) as error:
        read_attributes(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_column_names_the_nearest(tmp_path):
    path = write(tmp_path, TEXT)
    with pytest.raises(
        UserError, match=r"no column 'Blak_Hair' \(did you mean Black_Hair\?\).*--selected_attrs"
    ) as error:
        read_attributes(path).select(["Male", "Blak_Hair"])
    assert str(path) in str(error.value)


def test_a_missing_file_says_what_was_expected(tmp_path):
    with pytest.raises(UserError, match="No such file.*list_attr_celeba.txt or list_attr_celeba.csv"):
        read_attributes(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "name", ["my photo 1.jpg", "a,b.jpg", "quote\"'.jpg", "tab\there.jpg", "caf\udce9.jpg", "日.jpg"]
)
def test_names_of_every_kind_go_through_csv(tmp_path, name):
    path = tmp_path / "list_attr_celeba.csv"
    path.write_bytes(format_csv([name, "b.jpg"], COLUMNS, [b"1 -1 1", b"-1  1 -1"]))
    found = read_attributes(path)
    assert found.names == [name, "b.jpg"] and found.values.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert needs_csv([name]) == (len(name.split()) > 1)


def test_a_name_with_blanks_is_read_from_the_text_form_too(tmp_path):
    path = write(tmp_path, TEXT.replace("000002.jpg", "my  photo 1 2.jpg"))
    assert read_attributes(path).names == ["000001.jpg", "my  photo 1 2.jpg", "000003.jpg"]
    with pytest.raises(UserError, match="line break"):
        format_csv(["a\nb.jpg"], COLUMNS, [b"1 1 1"])

"""Results that the tests of the renderers share, and a proof that each is a valid result."""

import json
from pathlib import Path

import jsonschema
import pytest
from results import ALL

import xcheck.records.result


@pytest.mark.parametrize("make", ALL)
def test_every_example_is_a_valid_result_file(make):
    schema = json.loads(Path(xcheck.records.result.__file__).with_name("result.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(make().to_dict())

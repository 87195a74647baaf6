"""Subspace discovery: a planted block is found, noise is not, and p values are corrected for the number of tests."""

import numpy as np
import pytest

from gpmjax.evals.diagnostics.aspects import aspect_correlations


def planted(make_gpm_record, groups=30, size=4, seed=0, blocks=3):
    """Records whose block 2 is (1, −wit), which scores the difference of wit; other blocks and ``depth`` are noise."""
    draw = np.random.default_rng(seed)
    records = []
    for _ in range(groups):
        wit, depth = draw.normal(size=(2, size))
        v = draw.normal(size=(size, 2 * blocks))
        v[:, 2:4] = np.column_stack([np.ones(size), -wit])
        records.append(
            make_gpm_record(v, draw.random(blocks) + 0.5, ratings={"wit": wit.tolist(), "depth": depth.tolist()})
        )
    return records


def by_place(found):
    return {(line["block"], line["aspect"]): line for line in found["table"]}


def test_the_planted_subspace_is_found_and_nothing_else(make_gpm_record):
    found = aspect_correlations(planted(make_gpm_record), permutations=400)
    lines = by_place(found)
    wit = lines.pop((2, "wit"))
    assert wit["spearman"] > 0.9 and wit["interval"][0] > 0.85 and wit["p"] == wit["p_family"] == 1 / 401
    assert found["tests"] == 6 and found["pairs"] == 30 * 6 and found["aspects"] == ["wit", "depth"]
    assert all(abs(line["spearman"]) < 0.3 and line["p_family"] > 0.05 for line in lines.values())
    assert all(line["p_family"] >= line["p"] for line in lines.values())
    whole = {line["aspect"]: line["spearman"] for line in found["score"]}
    assert 0.2 < whole["wit"] < wit["spearman"] and abs(whole["depth"]) < 0.2


def test_p_family_is_uniform_on_noise(make_gpm_record):
    """Over forty samples of noise the smallest p_family of nine tests is uniform; the smallest p is not."""
    draw = np.random.default_rng(1)
    least = []
    for _ in range(40):
        records = [
            make_gpm_record(
                draw.normal(size=(3, 6)), ratings={aspect: draw.normal(size=3).tolist() for aspect in "abc"}
            )
            for _ in range(5)
        ]
        table = aspect_correlations(records, permutations=60)["table"]
        least.append((min(line["p_family"] for line in table), min(line["p"] for line in table)))
    family, alone = np.mean(least, axis=0)
    assert 0.38 < family < 0.62 and alone < 0.25


def test_ratings_that_differ_between_prompts_alone_have_no_correlation(make_gpm_record):
    """Each group has two responses with equal ratings, so there is no difference to correlate."""
    draw = np.random.default_rng(0)
    records = [make_gpm_record(draw.normal(size=(2, 2)), ratings={"wit": [n, n]}) for n in range(6)]
    (line,) = aspect_correlations(records, permutations=50)["table"]
    assert line == {"block": 1, "aspect": "wit", "spearman": None, "interval": None, "p": None, "p_family": None}


def test_a_response_without_a_rating_is_left_out(make_gpm_record):
    records = planted(make_gpm_record, size=5)
    whole = aspect_correlations(planted(make_gpm_record, size=5), permutations=50)
    cut = []
    for record in records:
        keep = [0, 1, 3, 4]
        ratings = {aspect: [values[i] for i in keep] for aspect, values in record["ratings"].items()}
        cut.append(make_gpm_record(np.array(record["embedding"])[keep], record["scale"], ratings=ratings))
        record["ratings"]["depth"][2] = None
    found, expected = (aspect_correlations(r, permutations=50) for r in (records, cut))
    assert found["left_out"] == 30 and expected["left_out"] == 0
    assert found["table"] == expected["table"] != whole["table"]


def test_groups_with_fewer_than_two_rated_responses_change_nothing(make_gpm_record):
    records = planted(make_gpm_record, groups=4)
    lonely = make_gpm_record([[1.0, 0, 0, 0, 0, 0]], ratings={"wit": [1.0], "depth": [2.0]})
    lacking = make_gpm_record(np.eye(2, 6), ratings={"wit": [1.0, 2.0]})
    found = aspect_correlations([*records, lonely, lacking], permutations=20)
    assert found["left_out"] == 2 and found["groups"] == 4
    assert [line["spearman"] for line in found["table"]] == [
        line["spearman"] for line in aspect_correlations(records, permutations=20)["table"]
    ]


def test_the_order_of_responses_does_not_matter(make_gpm_record, relabelled):
    records = planted(make_gpm_record, groups=10)
    moved = [relabelled(record, [2, 0, 3, 1]) for record in records]
    tables = [aspect_correlations(each, permutations=20)["table"] for each in (moved, records)]
    found, expected = ([line["spearman"] for line in table] for table in tables)
    assert found == pytest.approx(expected, abs=1e-6)


def test_records_without_ratings_or_blocks_have_no_figures(make_record, make_gpm_record):
    rewards = make_record([[0, 1], [-1, 0]], embedding=[[1.0], [0.0]], ratings={"wit": [1, 2]})
    assert aspect_correlations([rewards, make_gpm_record([[1, 0], [0, 1]])]) is None

"""A cycle is made if and only if each aspect has a different leader."""

import pytest

from gpmjax.data.aspects import ASPECTS, aspect_cycles, table1_sets
from gpmjax.data.cyclic import bt_ceiling
from gpmjax.data.sources import Entry


def entry(*ratings):
    """One entry in UltraFeedback's form; ratings[i] are response i's on the four aspects."""
    completions = [
        {
            "response": f"r{i}",
            "annotations": {a: {"Rating": str(value)} for a, value in zip(ASPECTS, values, strict=True)},
        }
        for i, values in enumerate(ratings)
    ]
    return Entry("u.jsonl:1", {"instruction": "Q", "completions": completions})


LEADERS = entry((5, 1, 1, 1), (1, 5, 1, 1), (1, 1, 5, 1), (1, 1, 1, 5))


def test_four_leaders_make_all_four_sets():
    sets = table1_sets([LEADERS])
    assert list(sets) == ["no_instruction_following", "no_honesty", "no_truthfulness", "no_helpfulness"]
    (group,) = sets["no_honesty"]
    assert group.responses == ("r0", "r2", "r3")
    assert [(c.chosen, c.rejected) for c in group.comparisons] == [(0, 1), (1, 2), (2, 0)]
    assert group.tags == {"config": "instruction_following,truthfulness,helpfulness"}
    assert bt_ceiling(group for groups in sets.values() for group in groups) < 1


def test_a_tied_lead_or_a_leader_of_two_aspects_makes_no_cycle():
    tied = entry((5, 1, 1, 1), (5, 5, 1, 1), (1, 1, 5, 1), (1, 1, 1, 5))
    twice = entry((5, 5, 1, 1), (1, 1, 5, 1), (1, 1, 1, 5))
    assert [len(groups) for groups in table1_sets([tied]).values()] == [1, 0, 0, 0]
    assert [len(groups) for groups in table1_sets([twice]).values()] == [1, 1, 0, 0]


def test_missing_ratings_are_ignored():
    unrated = entry((5, 1, 1, "N/A"), (1, 5, 1, "N/A"), (1, 1, 5, "N/A"))
    assert [len(groups) for groups in table1_sets([unrated]).values()] == [0, 0, 0, 1]


def test_invalid_aspects_and_entries_are_refused():
    with pytest.raises(ValueError, match="at least 3 different aspects"):
        aspect_cycles([LEADERS], ASPECTS[:2])
    for completions, message in (
        ("x", "field 'completions': must be a list"),
        ([{"response": 1}], r"field 'completions\[0\].response': must be a string"),
        ([{"response": "a"}], r"field 'completions\[0\].ratings': must be an object"),
    ):
        with pytest.raises(ValueError, match=f"^u.jsonl:2: {message}"):
            aspect_cycles([Entry("u.jsonl:2", {"prompt": "Q", "completions": completions})], ASPECTS)

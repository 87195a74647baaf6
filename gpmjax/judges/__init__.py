"""Who compares responses: one protocol, `gpmjax.judges.judge.Judge`, and every system that stands behind it."""

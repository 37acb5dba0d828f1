"""Results that the tests of the renderers share."""

from dataclasses import replace

from xcheck.records.result import Cause, Check, Divergence, Tie, Verdict
from xcheck.report.result import Result

LONG = "encoder.layers.11.blocks.0.attention.self.query_key_value_projection.weight"


KERAS_LONG = "encoder/layer_11/block_0/attention/self/query_key_value_projection/kernel"


HOSTILE = "<script>alert('x')</script>.[red]weight[/red] & [link=x]b :smile: \x1b[31mc\nd"


ENVIRONMENT = {
    "xcheck": "0.1.0",
    "python": "3.11.9",
    "torch": {"version": "2.9.0", "device": "cpu", "deterministic": True},
    "keras": {"version": "3.12.0", "backend": "tensorflow 2.20.0", "device": "cpu"},
    "commit": None,
    "threads": 2,
}


PARAMETERS = (
    ("stem.conv.weight", "stem/conv/kernel"),
    ("stem.norm.weight", "stem/norm/gamma"),
    ("stem.norm.bias", "stem/norm/beta"),
    (LONG, KERAS_LONG),
    ("head.bias", "head/bias"),
)


def passing_checks(precision: str, steps: int = 5) -> list[Check]:
    same, allowed = Verdict.EQUIVALENT, 3.1e-13 if precision == "float64" else 1.9e-6
    checks = [Check("inventory", None, None, t, t, k, same) for t, k in PARAMETERS]
    checks += [Check("sync", precision, None, t, t, k, same, 0.0, 0.0) for t, k in PARAMETERS]
    for step in range(1, steps + 1):
        for phase, scale in (("forward", 0.02), ("loss", 0.001), ("gradient", 0.11), ("update", 0.3)):
            of = PARAMETERS if phase in ("gradient", "update") else ((phase, phase),)
            checks += [
                Check(
                    phase, precision, step, t, t, k, same, allowed * scale * (1 + i / 7), allowed,
                    allowed * scale, "norm", (0, i), 0.25, 0.25,
                )
                for i, (t, k) in enumerate(of)
            ]  # fmt: skip
    return sorted(checks, key=lambda check: check.step or 0)


def equivalent(steps: int = 5) -> Result:
    return Result(
        pair="shared_dilated_conv",
        verdict=Verdict.EQUIVALENT,
        seed=0,
        steps=steps,
        environment=ENVIRONMENT,
        checks=tuple(passing_checks("float64", steps) + passing_checks("float32", steps)[5:]),
        coverage={
            "parameters": {"matched": 5, "waived": 0, "unmatched": 0},
            "gradients": {"compared": 25, "missing": 0},
        },
        ties=(Tie(("branch_a.weight", "branch_b.weight"), ("shared/kernel",), "same"),),
        timings={"build": 1.25, "float64": 4.5, "float32": 2.125},
        notes=("2 float32 islands were kept in float64: stem.norm, head.softmax.",),
    )


def different() -> Result:
    wrong = [
        Check(
            "update", "float64", step, t, t, k, Verdict.DIFFERENT, 5.7e-5 / (i + step), 3.1e-13, 7.1e-5,
            "element", (3, 0, 1, i), 0.123456789, 0.12345682, "the update is too small where the gradient is",
        )
        for step in (1, 2, 3, 4, 5)
        for i, (t, k) in enumerate(PARAMETERS)
    ]  # fmt: skip
    good = [c for c in passing_checks("float64") if c.phase != "update"]
    drift = Check(
        "trajectory", "float64", 5, "loss", "loss", "loss", Verdict.DIFFERENT, 8.8e-4, 1e-9, 9e-4, "norm",
        detail="the free run leaves the envelope of the reference twins at step 2",
    )  # fmt: skip
    return Result(
        pair="my_port",
        verdict=Verdict.DIFFERENT,
        seed=3,
        steps=5,
        environment=ENVIRONMENT,
        checks=(*good, *wrong, drift),
        first_divergence=Divergence(
            "update",
            "float64",
            1,
            "stem.conv.weight",
            "stem/conv/kernel",
            5.7e-5,
            3.1e-13,
            "stem.conv.weight",
        ),
        causes=(
            Cause(
                "adam_epsilon",
                "update",
                "Adam(eps=1e-08)",
                "Adam(epsilon=1e-07)",
                "Adam's epsilon differs: 1e-08 in PyTorch, 1e-07 in Keras.",
                {"torch_eps": 1e-8, "keras_epsilon": 1e-7, "error_with_torch_eps": 2.2e-16},
                confirmed=True,
                fix="keras.optimizers.Adam(learning_rate=1e-3, epsilon=1e-8)",
            ),
            Cause(
                "float32_constant",
                "update",
                None,
                "optimizer/learning_rate",
                "Keras holds the learning rate in float32.",
                {"rounding": 4.7e-8},
                fix="set the learning rate in float64: keras.config.set_floatx('float64')",
            ),
        ),
        coverage={"parameters": {"matched": 5, "waived": 1, "unmatched": 0}, "gradients": {"compared": 25}},
        ties=(
            Tie(("embed.weight", "head.weight"), ("embed/embeddings",), "same"),
            Tie((LONG, "encoder.layers.0.weight"), (KERAS_LONG, "encoder/layer_0/kernel"), "equal_but_untied"),
        ),
        timings={"build": 1.25, "float64": 4.5},
        notes=("1 parameter was waived: head.scale (trained on the PyTorch side only).",),
        expected="DIFFERENT",
        expectation={
            "verdict": "DIFFERENT",
            "phase": "update",
            "cause": "adam_epsilon",
            "held": True,
            "why": "",
        },
    )


def inconclusive() -> Result:
    lost = Check(
        "inventory", None, None, "head.scale", "head.scale", None, Verdict.INCONCLUSIVE,
        detail="no variable of the Keras side matches",
    )  # fmt: skip
    return replace(
        equivalent(),
        pair="half_done",
        verdict=Verdict.INCONCLUSIVE,
        checks=(lost, *passing_checks("float64")),
        coverage={"parameters": {"matched": 5, "waived": 0, "unmatched": 1}},
        ties=(),
    )


def numeric() -> Result:
    checks = passing_checks("float64") + passing_checks("float32")[5:]
    worse = replace(checks[-1], verdict=Verdict.NUMERIC, error=3.4e-4, phase="gradient")
    return replace(equivalent(), pair="log_softmax", verdict=Verdict.NUMERIC, checks=(*checks[:-1], worse))


def crashed() -> Result:
    failure = "The pair's build raised.\n  where:   torch side of broken.py\n  cause:   KeyError: 'width'"
    return Result("broken", Verdict.INCONCLUSIVE, seed=0, steps=5, failure=failure)


def hostile() -> Result:
    """A result whose every text is an attack on some renderer."""
    check = Check("update", "float64", 1, HOSTILE, HOSTILE, HOSTILE, Verdict.DIFFERENT, 1.0, 1e-13, detail=HOSTILE)
    return Result(
        pair=HOSTILE,
        verdict=Verdict.DIFFERENT,
        seed=0,
        steps=1,
        environment={HOSTILE: HOSTILE},
        checks=(check, replace(check, verdict=Verdict.EQUIVALENT)),
        first_divergence=Divergence("update", "float64", 1, HOSTILE, HOSTILE, 1.0, 1e-13, HOSTILE),
        causes=(Cause(HOSTILE, "update", HOSTILE, HOSTILE, HOSTILE, {HOSTILE: [HOSTILE]}, fix=HOSTILE),),
        coverage={HOSTILE: {HOSTILE: 1}},
        ties=(Tie((HOSTILE, HOSTILE), (HOSTILE,), HOSTILE),),
        timings={HOSTILE: 1.0},
        notes=(HOSTILE,),
        failure=HOSTILE,
        expectation={"verdict": HOSTILE, "phase": HOSTILE, "cause": HOSTILE, "held": False, "why": HOSTILE},
    )


ALL = (equivalent, different, inconclusive, numeric, crashed)

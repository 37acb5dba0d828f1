"""The line that says where a command is: with a clock that the test moves."""

from io import StringIO

from rich.console import Console
from rich.status import Status

from xcheck.cli.activity import EVERY, Activity, counting, line_by_line


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_line_grows_older_without_another_activity():
    clock = Clock()
    activity = Activity("port", clock)
    activity("free run: step 3 of 20, about 40 s left")
    assert activity.line() == "port: free run: step 3 of 20, about 40 s left  (0 s)"
    clock.now += 75
    assert activity.line().endswith("(75 s)")


def test_a_terminal_shows_the_age_of_now_and_not_of_the_last_activity():
    clock, console = Clock(), Console(width=80)
    activity = Activity("[red]port[/red]", clock)
    status = Status(activity, console=console)
    clock.now += 12
    with console.capture() as captured:
        console.print(status.renderable)
    assert "[red]port[/red]: starting  (12 s)" in captured.get()


def test_without_a_terminal_there_is_one_line_a_minute_and_none_after_the_end(capsys):
    clock, minutes = Clock(), iter(["first", "second", None])
    activity = Activity("port", clock)

    def wait(seconds: float) -> bool:
        assert seconds == EVERY == 60
        clock.now += seconds
        now = next(minutes)
        activity(now or "third")
        return now is None

    line_by_line(activity, wait)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "port: first  (60 s)\nport: second  (120 s)\n"


def test_control_characters_stay_off_the_screen():
    assert "\x1b" not in Activity("\x1b[2J", Clock()).line()


def test_on_a_terminal_a_bar_says_how_many_are_done_which_was_the_last_and_how_long_the_rest_takes():
    clock, written = Clock(), StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    with counting(4, console=console, clock=clock) as one_more:
        for name in ("first [b]EQUIVALENT[/b]", "second DIFFERENT"):
            clock.now += 20
            one_more(name)
    last = written.getvalue().rsplit("first", 1)[-1]
    assert "first [b]EQUIVALENT[/b]" in written.getvalue()
    assert "2/4" in last
    assert "0:00:40" in last
    assert "second DIFFERENT" in last


def test_without_a_terminal_a_sweep_has_no_bar(capsys):
    with counting(4, console=Console(file=StringIO()), clock=Clock()) as one_more:
        one_more("first EQUIVALENT")
    assert capsys.readouterr() == ("", "")

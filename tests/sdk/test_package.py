from srflow_sdk import errors


def test_a_message_is_one_line_that_a_terminal_can_show():
    message = str(errors.BundleError("a\n  b \x1b[31mred\x9b \u2028 \u202e é ×"))
    assert message == "a b �[31mred� � � é ×"
    endless = str(errors.ImageError(f"{'a' * 50_000}; use another"))
    assert endless.endswith("a; use another")
    assert len(endless) < 2100

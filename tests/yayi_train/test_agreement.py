import pytest

from yayi_data.errors import YayiError
from yayi_train import agreement


@pytest.fixture
def second_rank(monkeypatch):
    """Make this process rank 1 of two, whose rank 0 has left its token."""
    monkeypatch.setattr(agreement, "rank", lambda: 1)
    monkeypatch.setattr(agreement, "first_decides", lambda decide: "run.0.tmp")
    monkeypatch.setattr(agreement, "agree", lambda value: ["sees", value])
    monkeypatch.setattr(agreement.dist, "barrier", lambda: None)


@pytest.mark.usefixtures("second_rank")
def test_a_rank_that_misses_what_rank_0_left_has_another_folder(tmp_path):
    with pytest.raises(YayiError, match="rank 1 sees another folder there than rank 0"):
        agreement.refuse_unshared(tmp_path)
    (tmp_path / "run.0.tmp").touch()
    agreement.refuse_unshared(tmp_path)

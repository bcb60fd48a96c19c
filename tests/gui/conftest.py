import pytest
from gui_scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path) -> Scene:
    return make_scene(tmp_path)

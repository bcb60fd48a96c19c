import pytest
from gui_scene import Scene, make_scene


@pytest.fixture
def scene(tmp_path) -> Scene:
    return make_scene(tmp_path)


@pytest.fixture
def shown():
    """What napari tells the user."""
    from napari.utils.notifications import notification_manager

    lines = []

    def note(notification):
        lines.append(notification.message)

    notification_manager.notification_ready.connect(note)
    yield lines
    notification_manager.notification_ready.disconnect(note)

import pytest
from gui_scene import Scene, make_scene
from npe2 import PluginManager


@pytest.fixture(autouse=True, scope="session")
def plugins_found():
    """Napari 0.8 looks for plugins with its first window, and a viewer without one opens files too."""
    PluginManager.instance().discover()


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

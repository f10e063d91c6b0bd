"""Runs the tests without a build: style sheets by their plain names."""
import logging

from django.conf import settings
from django.test.runner import DiscoverRunner
from django.test.utils import override_settings


class Runner(DiscoverRunner):
    """Django's runner; the hashed names exist only after collectstatic."""

    def setup_test_environment(self, **kwargs):
        plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
        self._storages = override_settings(STORAGES=settings.STORAGES | {"staticfiles": plain})
        self._storages.enable()
        # The tests provoke 404 and 503 and look at the answers themselves.
        logging.getLogger("django.request").setLevel(logging.CRITICAL)
        super().setup_test_environment(**kwargs)
        # A developer's .env may ask for sample data; the tests count their own.
        settings.SAMPLE_DATA = False

    def teardown_test_environment(self, **kwargs):
        super().teardown_test_environment(**kwargs)
        self._storages.disable()

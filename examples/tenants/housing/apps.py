"""The application `housing`."""
from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


class HousingConfig(AppConfig):
    """Condominiums, their tenants, and what these are charged."""

    name = "housing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        post_migrate.connect(_fill, sender=self)


def _fill(verbosity=1, using="default", **kwargs):
    from housing.sample import fill

    if not settings.SAMPLE_DATA:
        return
    made = fill(using)
    if made and verbosity:
        print(f"  Filled the empty database with {made} condominiums")

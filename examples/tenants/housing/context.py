"""What every page shows."""
from django.conf import settings


def release(request):
    """The name of the running release, for the footer."""
    return {"release": settings.RELEASE}

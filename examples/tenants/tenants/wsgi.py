"""The WSGI application, for gunicorn: `gunicorn tenants.wsgi`."""
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tenants.settings")
application = get_wsgi_application()

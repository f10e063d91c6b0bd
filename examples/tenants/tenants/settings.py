"""Settings. What differs between hosts comes from the environment or from .env.

The release is read-only: whatever is written goes to db/ or media/, which a
deployment links into each release.
"""
import os
import secrets
from pathlib import Path

import dj_database_url
from dotenv import load_dotenv

BASE_DIR = Path(__file__).resolve().parent.parent
# The environment wins over the file.
load_dotenv(BASE_DIR / ".env")


def flag(name, default=False):
    """Reads a yes/no variable."""
    return os.environ.get(name, str(default)).strip().lower() in {"1", "true", "yes", "on"}


def secret_key():
    """The key from the environment, or one made once and kept beside the database.

    Written under a name of its own and then linked, so that two processes that
    start together end up with the same key. Hosts that share sessions or
    cookies need the same DJANGO_SECRET_KEY in their .env.
    """
    if key := os.environ.get("DJANGO_SECRET_KEY"):
        return key
    path = DATA_DIR / "secret_key"
    if not path.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        mine = DATA_DIR / f".secret_key.{os.getpid()}"
        mine.touch(mode=0o600)
        mine.write_text(secrets.token_urlsafe(50))
        try:
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return path.read_text()


DATA_DIR = Path(os.environ.get("TENANTS_DATA_DIR", BASE_DIR / "db"))
DEBUG = flag("DJANGO_DEBUG")
SECRET_KEY = secret_key()
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")
CSRF_TRUSTED_ORIGINS = [o for o in os.environ.get("DJANGO_CSRF_TRUSTED_ORIGINS", "").split(",") if o]

# The name of the release, set by the agent in the service's environment.
RELEASE = os.environ.get("LANDFALL_RELEASE", "working copy")
# Fill an empty database with three condominiums, to have something to look at.
SAMPLE_DATA = flag("TENANTS_SAMPLE_DATA")

INSTALLED_APPS = [
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "housing",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tenants.release.header",
]
ROOT_URLCONF = "tenants.urls"
WSGI_APPLICATION = "tenants.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
                "housing.context.release",
            ]
        },
    }
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"

DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{DATA_DIR / 'tenants.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # During a release the old and the new server are open on one file. WAL lets
    # them read while one writes; IMMEDIATE takes the write lock at the start of
    # a transaction, where waiting helps (a read lock that is upgraded later
    # fails at once with "database is locked"); timeout_s is that wait.
    DATABASES["default"]["OPTIONS"] = {
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("es", "Español")]
USE_I18N = True
USE_TZ = True
TIME_ZONE = os.environ.get("DJANGO_TIME_ZONE", "UTC")

STATIC_URL = "static/"
# Made by the build and part of the release, so it lies in the release.
STATIC_ROOT = BASE_DIR / "static"
MEDIA_ROOT = BASE_DIR / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # A hash in each file's name: a page of the old release and one of the new,
    # open during the same minute, each find their own style sheet.
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("DJANGO_LOG_LEVEL", "WARNING")},
}

TEST_RUNNER = "housing.tests.runner.Runner"

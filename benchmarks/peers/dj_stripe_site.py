"""The smallest Django site with dj-stripe, set up as its documentation says. Run as a program, it makes the tables.

`benchmarks.peers.dj_stripe` runs it with the Python of a virtual environment that has dj-stripe and none of our
packages.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

DATABASE = urlsplit(os.environ["BENCHMARK_DATABASE"])
SECRET, ENDPOINT, KEY = (os.environ[f"BENCHMARK_{name}"] for name in ("SECRET", "ENDPOINT", "KEY"))

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": DATABASE.path[1:],
            "USER": DATABASE.username,
            "HOST": DATABASE.hostname,
            "PORT": DATABASE.port,
            # Connections are kept, which is faster than Django's default of one for each request.
            "CONN_MAX_AGE": None,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "djstripe"],
    # The tables are made from the present models. The migrations would make the same tables, but take minutes.
    MIGRATION_MODULES={"auth": None, "contenttypes": None, "djstripe": None},
    ROOT_URLCONF="dj_stripe_urls",
    SECRET_KEY=SECRET,
    STRIPE_API_HOST=os.environ["BENCHMARK_API"],
    STRIPE_LIVE_MODE=False,
    STRIPE_TEST_SECRET_KEY=KEY,
    USE_TZ=True,
)


def prepare() -> None:
    """Make the tables, read the account, and store the endpoint that Stripe would have made."""
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    from djstripe.models import Account, APIKey, WebhookEndpoint

    APIKey.objects.create(secret=KEY, type="secret", livemode=False, name="benchmark")
    account = Account.get_or_retrieve_for_api_key(KEY)
    WebhookEndpoint.objects.create(
        id="we_benchmark",
        djstripe_owner_account=account,
        djstripe_uuid=ENDPOINT,
        enabled_events=["*"],
        livemode=False,
        secret=SECRET,
        status="enabled",
        url=f"https://receiver.example/stripe/webhook/{ENDPOINT}",
    )


if __name__ == "__main__":
    prepare()
else:
    application = get_wsgi_application()

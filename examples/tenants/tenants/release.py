"""Names the release in each answer, so that whoever looks at the traffic sees which one served it."""

from django.conf import settings


def header(get_response):
    def respond(request):
        response = get_response(request)
        response["X-Release"] = settings.RELEASE
        return response

    return respond

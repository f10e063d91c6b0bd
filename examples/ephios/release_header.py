"""Names the release in each answer: while a release goes round, two of them answer."""
from django.conf import settings


class ReleaseHeaderMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["X-Release"] = settings.RELEASE
        return response

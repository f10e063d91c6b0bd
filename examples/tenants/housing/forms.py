"""The three forms, in one look."""
from django import forms

from housing.models import Charge, Condominium, Tenant


class StyledForm(forms.ModelForm):
    """A model form whose inputs carry the style sheet's class."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = "field"


class DateInput(forms.DateInput):
    """The browser's own date picker, which wants ISO dates in every language."""

    input_type = "date"

    def __init__(self):
        super().__init__(format="%Y-%m-%d")


class CondominiumForm(StyledForm):
    class Meta:
        model = Condominium
        fields = ["name", "street", "postcode", "city"]


class TenantForm(StyledForm):
    class Meta:
        model = Tenant
        fields = ["condominium", "name", "email", "flat", "since"]
        widgets = {"since": DateInput()}


class ChargeForm(StyledForm):
    class Meta:
        model = Charge
        fields = ["tenant", "kind", "amount", "due", "note"]
        widgets = {"due": DateInput()}

"""The pages: three lists, and a form to add and to edit for each."""
from django.contrib.messages.views import SuccessMessageMixin
from django.db.models import Sum
from django.shortcuts import get_object_or_404
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _
from django.views.generic import CreateView, ListView, UpdateView

from housing.forms import ChargeForm, CondominiumForm, TenantForm
from housing.models import Charge, Condominium, Tenant


class FilteredList(ListView):
    """A list that an address such as ?tenant=3 narrows to one parent."""

    paginate_by = 50
    filter_model = None
    filter_name = ""

    def chosen(self):
        """The parent asked for, or None; an id that is not one is a 404."""
        key = self.request.GET.get(self.filter_name, "")
        if not key:
            return None
        return get_object_or_404(self.filter_model, pk=key if key.isdecimal() else None)

    def get_context_data(self, **kwargs):
        return super().get_context_data(chosen=self.parent, **kwargs)

    def get(self, request, *args, **kwargs):
        self.parent = self.chosen()
        return super().get(request, *args, **kwargs)


class CondominiumList(ListView):
    template_name = "housing/condominiums.html"
    context_object_name = "condominiums"

    def get_queryset(self):
        return Condominium.objects.with_totals()

    def get_context_data(self, **kwargs):
        rows = list(self.object_list)
        return super().get_context_data(
            total_tenants=sum(row.tenant_count for row in rows),
            total_charged=sum(row.charged for row in rows),
            **kwargs,
        ) | {"condominiums": rows}


class TenantList(FilteredList):
    template_name = "housing/tenants.html"
    context_object_name = "tenants"
    filter_model = Condominium
    filter_name = "condominium"

    def get_queryset(self):
        tenants = Tenant.objects.select_related("condominium").with_totals()
        return tenants.filter(condominium=self.parent) if self.parent else tenants


class ChargeList(FilteredList):
    template_name = "housing/charges.html"
    context_object_name = "charges"
    filter_model = Tenant
    filter_name = "tenant"

    def get_queryset(self):
        charges = Charge.objects.select_related("tenant__condominium")
        return charges.filter(tenant=self.parent) if self.parent else charges

    def get_context_data(self, **kwargs):
        # The totals cover the whole list, not the page shown.
        sums = dict(
            self.object_list.order_by().values("kind").annotate(total=Sum("amount"))
            .values_list("kind", "total")
        )
        return super().get_context_data(
            totals=[(label, sums[kind]) for kind, label in Charge.Kind.choices if kind in sums],
            total=sum(sums.values()),
            **kwargs,
        )


class FormPage(SuccessMessageMixin):
    """What the six forms share."""

    template_name = "housing/form.html"
    success_message = _("Saved.")

    def get_context_data(self, **kwargs):
        return super().get_context_data(
            title=self.title, back=self.success_url, **kwargs
        )


class CondominiumPage(FormPage):
    model = Condominium
    form_class = CondominiumForm
    success_url = reverse_lazy("condominiums")


class CondominiumAdd(CondominiumPage, CreateView):
    title = _("Add a condominium")


class CondominiumEdit(CondominiumPage, UpdateView):
    title = _("Edit the condominium")


class TenantPage(FormPage):
    model = Tenant
    form_class = TenantForm
    success_url = reverse_lazy("tenants")


class TenantAdd(TenantPage, CreateView):
    title = _("Add a tenant")


class TenantEdit(TenantPage, UpdateView):
    title = _("Edit the tenant")


class ChargePage(FormPage):
    model = Charge
    form_class = ChargeForm
    success_url = reverse_lazy("charges")


class ChargeAdd(ChargePage, CreateView):
    title = _("Add a charge")


class ChargeEdit(ChargePage, UpdateView):
    title = _("Edit the charge")

"""Condominiums, their tenants, and what these are charged."""
from decimal import Decimal

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Count, DecimalField, OuterRef, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

MONEY = DecimalField(max_digits=12, decimal_places=2)


class CondominiumQuerySet(models.QuerySet):
    def with_totals(self):
        """Adds `tenant_count` and `charged`; one query for any number of rows.

        The sum is a subquery: joining tenants and charges in one aggregate
        would count each tenant once per charge.
        """
        charged = (
            Charge.objects.filter(tenant__condominium=OuterRef("pk"))
            .values("tenant__condominium")
            .annotate(total=Sum("amount"))
            .values("total")
        )
        return self.annotate(
            tenant_count=Count("tenants"),
            charged=Coalesce(Subquery(charged, output_field=MONEY), Value(0, output_field=MONEY)),
        ).order_by(*self.model._meta.ordering)  # Django drops Meta.ordering from aggregates


class Condominium(models.Model):
    """A building whose flats are let."""

    name = models.CharField(_("name"), max_length=120, unique=True)
    street = models.CharField(_("street"), max_length=160)
    postcode = models.CharField(_("postcode"), max_length=12)
    city = models.CharField(_("city"), max_length=80)

    objects = CondominiumQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("condominium")
        verbose_name_plural = _("condominiums")

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return f"{reverse('tenants')}?condominium={self.pk}"


class TenantQuerySet(models.QuerySet):
    def with_totals(self):
        """Adds `charged`, the sum of the tenant's charges."""
        return self.annotate(
            charged=Coalesce(Sum("charges__amount"), Value(0, output_field=MONEY))
        ).order_by(*self.model._meta.ordering)  # Django drops Meta.ordering from aggregates


class Tenant(models.Model):
    """A person who rents a flat."""

    condominium = models.ForeignKey(
        Condominium, models.PROTECT, related_name="tenants", verbose_name=_("condominium")
    )
    name = models.CharField(_("name"), max_length=120)
    email = models.EmailField(_("e-mail"), blank=True)
    flat = models.CharField(_("flat"), max_length=20, help_text=_("Floor and door, such as 3-B."))
    since = models.DateField(_("tenant since"))

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["condominium__name", "flat"]
        verbose_name = _("tenant")
        verbose_name_plural = _("tenants")
        constraints = [
            models.UniqueConstraint(fields=["condominium", "flat"], name="one_tenant_per_flat")
        ]

    def __str__(self):
        return f"{self.name} ({self.flat})"

    def get_absolute_url(self):
        return f"{reverse('charges')}?tenant={self.pk}"


class Charge(models.Model):
    """An amount that a tenant owes."""

    class Kind(models.TextChoices):
        RENT = "rent", _("Rent")
        UTILITIES = "utilities", _("Utilities")
        REPAIR = "repair", _("Repair")
        OTHER = "other", _("Other")

    tenant = models.ForeignKey(
        Tenant, models.PROTECT, related_name="charges", verbose_name=_("tenant")
    )
    kind = models.CharField(_("kind"), max_length=12, choices=Kind, default=Kind.RENT)
    amount = models.DecimalField(
        _("amount"), max_digits=10, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))]
    )
    due = models.DateField(_("due on"))
    note = models.CharField(_("note"), max_length=160, blank=True)

    class Meta:
        ordering = ["-due", "tenant__name", "kind"]
        verbose_name = _("charge")
        verbose_name_plural = _("charges")
        indexes = [models.Index(fields=["tenant", "due"], name="charge_tenant_due")]

    def __str__(self):
        return f"{self.get_kind_display()} {self.amount} ({self.due})"

"""Sample data: the same three condominiums each time."""
from datetime import date
from decimal import Decimal

from django.db import transaction

from housing.models import Charge, Condominium, Tenant

CONDOMINIUMS = [
    ("Lindenhof", "Lindenstraße 14", "10969", "Berlin"),
    ("Patio del Olivo", "Calle del Olivo 7", "41004", "Sevilla"),
    ("Quayside House", "3 Harbour Row", "BS1 5TY", "Bristol"),
]
TENANTS = [
    [("Anke Vogel", "1-A", 860), ("Jonas Brandt", "1-B", 790), ("Familie Yılmaz", "2-A", 1140),
     ("Clara Neumann", "3-A", 910)],
    [("Lucía Ortega", "1-A", 640), ("Mateo Ruiz", "1-B", 615), ("Inés Navarro", "2-A", 720)],
    [("Harriet Cole", "1-A", 1020), ("Owen Pryce", "1-B", 980), ("Amara Okafor", "2-A", 1190),
     ("Theo Lindqvist", "2-B", 1150), ("Priya Nair", "3-A", 1275)],
]
MONTHS = [date(2026, 9, 1), date(2026, 10, 1), date(2026, 11, 1)]


def fill(using="default"):
    """Fills the database if it holds no condominium; returns how many were made."""
    with transaction.atomic(using=using):
        if Condominium.objects.using(using).exists():
            return 0
        for (name, street, postcode, city), people in zip(CONDOMINIUMS, TENANTS):
            condominium = Condominium.objects.using(using).create(
                name=name, street=street, postcode=postcode, city=city
            )
            for number, (person, flat, rent) in enumerate(people):
                _let(using, condominium, number, person, flat, Decimal(rent))
        return len(CONDOMINIUMS)


def _let(using, condominium, number, person, flat, rent):
    tenant = Tenant.objects.using(using).create(
        condominium=condominium, name=person, flat=flat, since=date(2021 + number, 1 + number, 1),
        email=f"flat-{flat.lower()}@{condominium.city.lower()}.example",
    )
    Kind = Charge.Kind
    charges = [
        Charge(tenant=tenant, kind=kind, amount=amount, due=month)
        for month in MONTHS
        for kind, amount in [(Kind.RENT, rent), (Kind.UTILITIES, rent * Decimal("0.18"))]
    ]
    if number == 0:
        charges.append(
            Charge(tenant=tenant, kind=Kind.REPAIR, amount=Decimal("145.50"), due=date(2026, 10, 15),
                   note="Kitchen tap")
        )
    Charge.objects.using(using).bulk_create(charges)

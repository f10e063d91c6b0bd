"""The pages, as a browser meets them."""
from datetime import date
from decimal import Decimal

from django.test import TestCase
from django.urls import reverse

from housing.models import Charge, Condominium, Tenant
from housing.sample import fill


class Pages(TestCase):
    @classmethod
    def setUpTestData(cls):
        fill()
        cls.tenant = Tenant.objects.get(name="Anke Vogel")

    def test_every_list_and_form_answers(self):
        tenant, charge = self.tenant, self.tenant.charges.first()
        addresses = [
            reverse(name) for name in
            ["condominiums", "tenants", "charges", "condominium_add", "tenant_add", "charge_add"]
        ] + [
            reverse("condominium_edit", args=[tenant.condominium_id]),
            reverse("tenant_edit", args=[tenant.pk]),
            reverse("charge_edit", args=[charge.pk]),
        ]
        for address in addresses:
            with self.subTest(address):
                self.assertEqual(self.client.get(address).status_code, 200)

    def test_lists_answer_while_the_database_is_empty(self):
        Charge.objects.all().delete()
        Tenant.objects.all().delete()
        Condominium.objects.all().delete()
        for name, text in [("condominiums", "No condominium"), ("tenants", "No tenant"), ("charges", "No charge")]:
            self.assertContains(self.client.get(reverse(name)), text)

    def test_the_front_page_adds_up(self):
        page = self.client.get("/")
        self.assertEqual(page.context["total_tenants"], 12)
        self.assertEqual(
            page.context["total_charged"], sum(charge.amount for charge in Charge.objects.all())
        )
        lindenhof = next(c for c in page.context["condominiums"] if c.name == "Lindenhof")
        self.assertEqual(lindenhof.tenant_count, 4)
        self.assertEqual(
            lindenhof.charged,
            sum(c.amount for c in Charge.objects.filter(tenant__condominium=lindenhof)),
        )

    def test_lists_cost_the_same_number_of_queries_however_long_they_are(self):
        for name, queries in [("condominiums", 1), ("tenants", 2), ("charges", 3)]:
            with self.subTest(name), self.assertNumQueries(queries):
                self.client.get(reverse(name))

    def test_lists_are_in_order(self):
        names = [c.name for c in self.client.get("/").context["condominiums"]]
        self.assertEqual(names, sorted(names))
        flats = [(t.condominium.name, t.flat) for t in self.client.get("/tenants/").context["tenants"]]
        self.assertEqual(flats, sorted(flats))

    def test_charges_of_one_tenant(self):
        page = self.client.get(self.tenant.get_absolute_url())
        self.assertContains(page, "Kitchen tap")
        self.assertNotContains(page, "Mateo Ruiz")
        self.assertEqual(page.context["total"], sum(c.amount for c in self.tenant.charges.all()))

    def test_a_filter_that_names_nothing_is_not_found(self):
        for wrong in ["999999", "x", "-1", "1e3"]:
            self.assertEqual(self.client.get(f"/charges/?tenant={wrong}").status_code, 404)

    def test_a_long_list_has_pages_and_totals_over_all_of_them(self):
        page = self.client.get("/charges/?page=2")
        self.assertEqual(page.context["total"], sum(c.amount for c in Charge.objects.all()))
        self.assertContains(page, "2 / 2")


class Forms(TestCase):
    def test_a_tenant_and_a_charge_from_nothing(self):
        self.client.post("/condominiums/add/", {
            "name": "Am Markt", "street": "Markt 1", "postcode": "04109", "city": "Leipzig"})
        condominium = Condominium.objects.get(name="Am Markt")
        self.client.post("/tenants/add/", {
            "condominium": condominium.pk, "name": "Ida Falk", "flat": "4-C", "since": "2026-02-01"})
        tenant = Tenant.objects.get(name="Ida Falk")
        answer = self.client.post("/charges/add/", {
            "tenant": tenant.pk, "kind": "rent", "amount": "812.40", "due": "2026-03-01"}, follow=True)
        self.assertContains(answer, "Saved.")
        self.assertEqual(tenant.charges.get().amount, Decimal("812.40"))

    def test_what_makes_no_sense_is_refused_with_a_reason(self):
        fill()
        tenant = Tenant.objects.first()
        for wrong in ["0", "-5", "a lot", ""]:
            answer = self.client.post("/charges/add/", {
                "tenant": tenant.pk, "kind": "rent", "amount": wrong, "due": "2026-03-01"})
            self.assertTrue(answer.context["form"].errors["amount"], wrong)

    def test_two_tenants_cannot_have_one_flat(self):
        fill()
        tenant = Tenant.objects.first()
        answer = self.client.post("/tenants/add/", {
            "condominium": tenant.condominium_id, "name": "Second", "flat": tenant.flat, "since": "2026-02-01"})
        self.assertEqual(answer.status_code, 200)
        self.assertTrue(answer.context["form"].non_field_errors())

    def test_editing_keeps_the_date_in_the_browsers_format(self):
        fill()
        tenant = Tenant.objects.first()
        tenant.since = date(2024, 5, 6)
        tenant.save()
        answer = self.client.get(reverse("tenant_edit", args=[tenant.pk]), headers={"accept-language": "de"})
        self.assertContains(answer, 'value="2024-05-06"')


class Languages(TestCase):
    def test_the_page_follows_the_browser(self):
        for language, heading in [("en", "Condominiums"), ("de", "Wohnanlagen"), ("es", "Edificios"), ("fr", "Condominiums")]:
            self.assertContains(self.client.get("/", headers={"accept-language": language}), f">{heading}</h1>")

    def test_a_choice_is_remembered(self):
        self.client.post("/language/", {"language": "es", "next": "/charges/"})
        self.assertContains(self.client.get("/charges/"), "Añadir un cargo")

    def test_amounts_are_written_as_the_language_does(self):
        fill()
        tenant = Tenant.objects.get(name="Priya Nair")
        for language, amount in [("en", "1,275.00"), ("de", "1.275,00")]:
            page = self.client.get(tenant.get_absolute_url(), headers={"accept-language": language})
            self.assertContains(page, amount)

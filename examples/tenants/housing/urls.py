"""Addresses of the application."""
from django.urls import path

from housing import views

urlpatterns = [
    path("", views.CondominiumList.as_view(), name="condominiums"),
    path("condominiums/add/", views.CondominiumAdd.as_view(), name="condominium_add"),
    path("condominiums/<int:pk>/edit/", views.CondominiumEdit.as_view(), name="condominium_edit"),
    path("tenants/", views.TenantList.as_view(), name="tenants"),
    path("tenants/add/", views.TenantAdd.as_view(), name="tenant_add"),
    path("tenants/<int:pk>/edit/", views.TenantEdit.as_view(), name="tenant_edit"),
    path("charges/", views.ChargeList.as_view(), name="charges"),
    path("charges/add/", views.ChargeAdd.as_view(), name="charge_add"),
    path("charges/<int:pk>/edit/", views.ChargeEdit.as_view(), name="charge_edit"),
]

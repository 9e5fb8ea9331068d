"""The tables for countries and cities."""

import django.db.models.deletion
from django.db import migrations, models

import cities.search


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Country",
            fields=[
                ("code", models.CharField(max_length=2, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=100)),
                ("capital", models.CharField(blank=True, max_length=100)),
                ("continent", models.CharField(max_length=20)),
                ("population", models.BigIntegerField()),
                ("area", models.IntegerField(help_text="in square kilometres")),
                ("currency", models.CharField(blank=True, max_length=50)),
            ],
            options={"verbose_name_plural": "countries"},
        ),
        migrations.CreateModel(
            name="City",
            fields=[
                ("geoname_id", models.IntegerField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200)),
                ("search_key", cities.search.KeyField(help_text="plain(name)", max_length=200)),
                ("population", models.IntegerField()),
                ("latitude", models.FloatField()),
                ("longitude", models.FloatField()),
                ("timezone", models.CharField(max_length=50)),
                (
                    "country",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="cities", to="cities.country"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "cities",
                "ordering": ("-population", "geoname_id"),
                "indexes": [
                    models.Index(fields=["search_key"], name="city_search_key"),
                    models.Index(fields=["-population", "geoname_id"], name="city_biggest_first"),
                ],
            },
        ),
    ]

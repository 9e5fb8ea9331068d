"""Models of all shapes: what the packing of rows must tell apart. Those that differ in behaviour only have no table."""

import copyreg

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=80)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="children")
    labels = GenericRelation("Label")


class Money:
    """What a custom field may make of a column: an object that pickle knows nothing about."""

    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return isinstance(other, Money) and self.cents == other.cents

    __hash__ = None


class MoneyField(models.IntegerField):
    def from_db_value(self, value, expression, connection):
        return Money(value)

    def get_prep_value(self, value):
        return value.cents if isinstance(value, Money) else value


class Price(models.Model):
    amount = MoneyField()


class Document(models.Model):
    file = models.FileField()


class Item(models.Model):
    """Has a field of every kind."""

    title = models.CharField(max_length=80)
    category = models.ForeignKey(Category, models.CASCADE, null=True, related_name="items")
    text = models.TextField(null=True)
    count = models.BigIntegerField(null=True)
    cost = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    weight = models.FloatField(null=True)
    done = models.BooleanField(null=True)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    hour = models.TimeField(null=True)
    length = models.DurationField(null=True)
    key = models.UUIDField(null=True)
    data = models.JSONField(null=True)
    blob = models.BinaryField(null=True)
    address = models.GenericIPAddressField(null=True)
    friends = models.ManyToManyField("self")


class ItemProxy(Item):
    class Meta:
        proxy = True


class Place(models.Model):
    name = models.CharField(max_length=80)


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Owner(models.Model):
    name = models.CharField(max_length=80)
    place = models.OneToOneField(Place, models.CASCADE, related_name="owner")


class Label(models.Model):
    text = models.CharField(max_length=80)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    target = GenericForeignKey()


class Seat(models.Model):
    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=2)
    number = models.IntegerField()


# --- with a behaviour of their own -----------------------------------------------------------------------------------


class Odd(Category):
    """Base of those whose instances pack() leaves alone, each for one reason."""

    class Meta:
        proxy = True


class OwnReduce(Odd):
    class Meta:
        proxy = True

    def __reduce__(self):
        return super().__reduce__()


class OwnReduceEx(Odd):
    class Meta:
        proxy = True

    def __reduce_ex__(self, protocol):
        return super().__reduce_ex__(protocol)


class OwnGetState(Odd):
    class Meta:
        proxy = True

    def __getstate__(self):
        return super().__getstate__()


class OwnSetState(Odd):
    class Meta:
        proxy = True

    def __setstate__(self, state):
        super().__setstate__(state)


class OwnNew(Odd):
    class Meta:
        proxy = True

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)


class Slotted(Odd):
    __slots__ = ("extra",)

    class Meta:
        proxy = True


class Registered(Odd):
    class Meta:
        proxy = True


copyreg.pickle(Registered, lambda row: row.__reduce__())


class Loud:
    """A descriptor that hears of every assignment."""

    def __set_name__(self, owner, name):
        self.name = name
        self.heard = []

    def __get__(self, instance, owner=None):
        return self if instance is None else instance.__dict__[self.name]

    def __set__(self, instance, value):
        self.heard.append(value)
        instance.__dict__[self.name] = value


class Listening(Category):
    """Would notice if its attributes were assigned to."""

    loud = Loud()
    assigned = []

    class Meta:
        proxy = True

    def __setattr__(self, name, value):
        self.assigned.append(name)
        super().__setattr__(name, value)

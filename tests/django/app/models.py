"""A small library: authors have books, books have tags."""

from django.db import models
from django.db.models import Count


class AuthorQuerySet(models.QuerySet):
    def prolific(self, books=2):
        return self.annotate(book_count=Count("books")).filter(book_count__gte=books)


class Author(models.Model):
    name = models.CharField(max_length=80, unique=True)
    born = models.DateTimeField(null=True)

    objects = AuthorQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    @classmethod
    def register(cls, name):
        return cls.objects.create(name=name)

    @property
    def initial(self):
        return self.name[0]

    def titles(self, suffix=""):
        return [book.title + suffix for book in self.books.all()]


class Tag(models.Model):
    name = models.CharField(max_length=80)


class LongBooks(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(pages__gte=500)


class Book(models.Model):
    title = models.CharField(max_length=80)
    pages = models.IntegerField(default=100)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    tags = models.ManyToManyField(Tag, related_name="books")

    objects = models.Manager()
    long = LongBooks()

    class Meta:
        ordering = ["title"]

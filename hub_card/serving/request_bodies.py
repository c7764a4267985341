"""The bodies of requests: what they may hold, and the rows that the pipelines take."""

import base64
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import FormData, UploadFile

from processing.columns import PICTURE_COLUMNS

from .limits import MAX_BOXES, MAX_CHARACTERS, MAX_MEGABYTES, MAX_PICTURES, Refused, check_text, read_boxes


MAX_ERRORS = 3  # that an answer names


def _picture(value: Any) -> bytes:
    """The bytes of a picture, which came as base64 or, of a form, as they are. No path and no address is looked at."""
    if isinstance(value, str):
        try:
            encoded = value.partition(",")[2] if value.startswith("data:") else value
            value = base64.b64decode("".join(encoded.split()), validate=True)  # Lines may be wrapped.
        except ValueError:
            raise ValueError("a picture is expected as base64; paths and addresses are not read") from None
    if not isinstance(value, bytes):
        raise ValueError("a picture is expected as base64")
    if len(value) > MAX_MEGABYTES * 10**6:
        raise ValueError(f"the picture has {len(value) / 10**6:.1f} MB, at most {MAX_MEGABYTES} are taken")
    return value


def _boxes(value: Any) -> Any:
    """Boxes as JSON, or of a form as a text of JSON."""
    try:
        return read_boxes(value if isinstance(value, str) else json.dumps(value))
    except RecursionError:
        raise Refused("The boxes are nested too deeply.") from None


def _text(value: str) -> str:
    return check_text(value, "text")


Picture = Annotated[bytes, BeforeValidator(_picture, json_schema_input_type=str), Field(description="As base64.")]
Pictures = Annotated[
    list[Picture],
    BeforeValidator(
        lambda value: value if isinstance(value, list) else [value], json_schema_input_type=str | list[str]
    ),
]
Text = Annotated[str, AfterValidator(_text)]
Boxes = Annotated[
    Any,
    AfterValidator(_boxes),
    Field(description="Boxes that crops of `image` are cut from: [[xmin, ymin, xmax, ymax], ...], in pixels."),
]


class ContextPart(BaseModel):
    """One thing that is known of a text besides, and of which kind it is."""

    model_config = ConfigDict(strict=True, extra="forbid")
    text: Text
    kind: Annotated[str, Field(max_length=100)] | None = None


class Span(BaseModel):
    """An entity of a text: where it starts and ends, end exclusive, and perhaps the words themselves."""

    model_config = ConfigDict(strict=True, extra="forbid")
    start: int
    end: int
    name: Text | None = None


class TagRequest(BaseModel):
    """A text or its words, with pictures or without, as the pipeline takes them."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"text": "Jordan met Paris"}]}
    )
    text: Text | None = None
    tokens: Annotated[list[str], Field(max_length=MAX_CHARACTERS)] | None = None
    image: Annotated[Pictures, Field(max_length=MAX_PICTURES)] | None = None
    aux_crops: Annotated[Pictures, Field(max_length=MAX_BOXES)] | None = None
    rcnn_crops: Annotated[Pictures, Field(max_length=MAX_BOXES)] | None = None
    crops: Boxes | None = None
    context: Text | Annotated[list[Text | ContextPart], Field(max_length=20)] | None = None

    @model_validator(mode="after")
    def _check(self) -> "TagRequest":
        if self.text is None and self.tokens is None:
            raise ValueError("a text is expected as `text`, or its words as `tokens`")
        check_text(" ".join(self.tokens or ()), "text of all tokens")
        return self

    def row(self) -> dict[str, Any]:
        """The row: what was given, by its column."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        row = {name: value for name, value in values.items() if value is not None}
        if len(row.get("image", ())) == 1:
            (row["image"],) = row["image"]
        if isinstance(row.get("context"), list):
            row["context"] = [part if isinstance(part, str) else part.model_dump() for part in row["context"]]
        for name in ("head", "tail"):
            if isinstance(row.get(name), Span):
                row[name] = row[name].model_dump(exclude_none=True)
        return row


class RelationRequest(TagRequest):
    """The same with two entities: each as it stands in the text, or where it starts and ends, end exclusive."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Jordan met Paris", "head": "Jordan", "tail": [11, 16]}]}
    )
    head: Text | tuple[int, int] | Span
    tail: Text | tuple[int, int] | Span


def read_json(schema: type[TagRequest], body: bytes) -> dict[str, Any]:
    """
    The row of a body of JSON.

    Raises:
        Refused: for what the schema does not allow.
    """
    try:
        return schema.model_validate_json(body).row()
    except ValidationError as error:
        raise Refused(_told(error)) from None


async def read_form(schema: type[TagRequest], form: FormData) -> dict[str, Any]:
    """
    The row of a form: pictures as files, of which a name may occur several times, and as fields `text`, `head`,
    `tail`, `context` and the JSON of `crops`. `tokens`, `head` and `tail` may be JSON too.

    Raises:
        Refused: for what the schema does not allow.
    """
    given: dict[str, Any] = {}
    for name in form:
        values = [await value.read() if isinstance(value, UploadFile) else value for value in form.getlist(name)]
        is_file = [isinstance(value, bytes) for value in values]
        if any(is_file) and name not in PICTURE_COLUMNS:
            raise Refused(f"{name[:100]}: a field of text is expected, not a file.")
        if not all(is_file) and name in PICTURE_COLUMNS:
            raise Refused(f"{name}: a file is expected.")
        one = values[0] if len(values) == 1 and name not in PICTURE_COLUMNS else values
        given[name] = _from_json(name, one) if name in ("tokens", "head", "tail") else one
    try:
        return schema.model_validate(given).row()
    except ValidationError as error:
        raise Refused(_told(error)) from None


def _from_json(name: str, value: Any) -> Any:
    """The list or object that a field of a form holds as JSON, or the field as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            read = json.loads(value)
            return tuple(read) if name != "tokens" and isinstance(read, list) else read
        except (ValueError, RecursionError):
            pass  # a text that begins so
    return value


def _told(error: ValidationError) -> str:
    """The first errors as a sentence. What came is not repeated: it may be large."""
    told: list[str] = []
    for each in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_ERRORS]:
        column, *parts = each["loc"] or ("",)
        # Behind the column, the names are those of types that were tried.
        place = " ".join([str(column)[:100], *(str(part) for part in parts if isinstance(part, int))])
        message = each["msg"].removeprefix("Value error, ")
        told.append(f"{place}: {message}" if place else message[:1].upper() + message[1:])
    return "; ".join(dict.fromkeys(told)).rstrip(".") + ". The page /docs shows what is expected."

"""The messages of KEDA's external scaler protocol (externalscaler.proto), made here from their fields' names and numbers.

No code is generated and none is checked in: protobuf builds the classes from this table, which tests compare with what goes
over the wire.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE: Final = "externalscaler.ExternalScaler"
_PACKAGE: Final = "externalscaler"
_Field = descriptor_pb2.FieldDescriptorProto

_FIELDS: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "ScaledObjectRef": (("name", 1, "string"), ("namespace", 2, "string"), ("scalerMetadata", 3, "map")),
    "IsActiveResponse": (("result", 1, "bool"),),
    "GetMetricSpecResponse": (("metricSpecs", 1, "repeated MetricSpec"),),
    "MetricSpec": (("metricName", 1, "string"), ("targetSize", 2, "int64"), ("targetSizeFloat", 3, "double")),
    "GetMetricsRequest": (("scaledObjectRef", 1, "ScaledObjectRef"), ("metricName", 2, "string")),
    "GetMetricsResponse": (("metricValues", 1, "repeated MetricValue"),),
    "MetricValue": (("metricName", 1, "string"), ("metricValue", 2, "int64"), ("metricValueFloat", 3, "double")),
}
"""Of each message: name, number and type of its fields. map: of strings by strings."""
_SCALARS: Final = {
    "string": _Field.TYPE_STRING,
    "bool": _Field.TYPE_BOOL,
    "int64": _Field.TYPE_INT64,
    "double": _Field.TYPE_DOUBLE,
}


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            _add(message, field, number, kind)
    return file


def _add(message: Any, name: str, number: int, kind: str) -> None:
    repeated, _, bare = kind.rpartition(" ")
    field = message.field.add(name=name, number=number, label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL)
    if bare in _SCALARS:
        field.type = _SCALARS[bare]
        return
    field.type = _Field.TYPE_MESSAGE
    if bare != "map":
        field.type_name = f".{_PACKAGE}.{bare}"
        return
    entry = f"{name[0].upper()}{name[1:]}Entry"  # A map is a repeated message of its own, as protobuf names it.
    field.label, field.type_name = _Field.LABEL_REPEATED, f".{_PACKAGE}.{message.name}.{entry}"
    pair = message.nested_type.add(name=entry)
    pair.options.map_entry = True
    _add(pair, "key", 1, "string")
    _add(pair, "value", 2, "string")


_CLASSES: Final[dict[str, Any]] = message_factory.GetMessages([_file()], pool=descriptor_pool.DescriptorPool())
ScaledObjectRef: Final[Any] = _CLASSES[f"{_PACKAGE}.ScaledObjectRef"]
IsActiveResponse: Final[Any] = _CLASSES[f"{_PACKAGE}.IsActiveResponse"]
GetMetricSpecResponse: Final[Any] = _CLASSES[f"{_PACKAGE}.GetMetricSpecResponse"]
MetricSpec: Final[Any] = _CLASSES[f"{_PACKAGE}.MetricSpec"]
GetMetricsRequest: Final[Any] = _CLASSES[f"{_PACKAGE}.GetMetricsRequest"]
GetMetricsResponse: Final[Any] = _CLASSES[f"{_PACKAGE}.GetMetricsResponse"]
MetricValue: Final[Any] = _CLASSES[f"{_PACKAGE}.MetricValue"]

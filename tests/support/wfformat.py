"""Checks that a record has the structure of WfFormat 1.5 (wfcommons.org), and that what it says of its
tasks in several places agrees."""

import re

from instance import expect
from schema import is_a

# What may be named as a parent or child.
NAME = re.compile(r"[0-9a-zA-Z_.-]*")


def members(value, where, required, optional=()):
    """The value is an object with these members, each of its kind: (name, kind) pairs."""
    expect(isinstance(value, dict), f"{where}: {value!r} is no object")
    for name, kind in required:
        expect(name in value, f"{where}: lacks '{name}'")
    for name, kind in (*required, *optional):
        if name not in value:
            continue
        expect(is_a(value[name], kind), f"{where}.{name}: {value[name]!r} is not of type {kind}")
        expect(kind != "string" or value[name], f"{where}.{name}: is empty")


def check_specification(specification, where):
    members(specification, where, [("tasks", "array")], [("files", "array")])
    tasks = specification["tasks"]
    expect(tasks, f"{where}.tasks: there is none")
    for number, task in enumerate(tasks):
        place = f"{where}.tasks[{number}]"
        members(task, place, [("name", "string"), ("id", "string"), ("parents", "array"),
                              ("children", "array")],
                [("inputFiles", "array"), ("outputFiles", "array")])
        for name in task["parents"] + task["children"]:
            expect(is_a(name, "string") and NAME.fullmatch(name), f"{place}: names {name!r}")
    by_id = {task["id"]: task for task in tasks}
    expect(len(by_id) == len(tasks), f"{where}: two tasks have one id")
    edges = {(parent, task["id"]) for task in tasks for parent in task["parents"]}
    backwards = {(task["id"], child) for task in tasks for child in task["children"]}
    expect(edges == backwards, f"{where}: parents and children differ in {edges ^ backwards}")
    expect({end for edge in edges for end in edge} <= set(by_id), f"{where}: a name is no task's")
    return by_id


def check_execution(execution, where, known):
    members(execution, where, [("makespanInSeconds", "number"), ("executedAt", "string"),
                               ("tasks", "array")], [("machines", "array")])
    expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", execution["executedAt"]),
           f"{where}.executedAt is {execution['executedAt']!r}")
    if "machines" in execution:
        expect(execution["machines"], f"{where}.machines: is empty")
    names = set()
    for number, machine in enumerate(execution.get("machines", [])):
        place = f"{where}.machines[{number}]"
        members(machine, place, [("nodeName", "string")], [("cpu", "object")])
        members(machine.get("cpu", {}), f"{place}.cpu", [], [("coreCount", "integer")])
        names.add(machine["nodeName"])
    for number, task in enumerate(execution["tasks"]):
        place = f"{where}.tasks[{number}]"
        members(task, place, [("id", "string"), ("runtimeInSeconds", "number")],
                [("command", "object"), ("coreCount", "number"), ("memoryInBytes", "number"),
                 ("machines", "array")])
        expect(set(task.get("machines", [])) <= names, f"{place}: ran on {task['machines']}")
    ran = [task["id"] for task in execution["tasks"]]
    expect(len(ran) == len(set(ran)) and set(ran) == known, f"{where}.tasks: are others")


def check(record):
    members(record, "$", [("name", "string"), ("schemaVersion", "string"), ("workflow", "object")],
            [("runtimeSystem", "object")])
    expect(record["schemaVersion"] == "1.5", f"the version is {record['schemaVersion']}")
    members(record["runtimeSystem"], "$.runtimeSystem", [("name", "string"), ("version", "string")])
    workflow = record["workflow"]
    members(workflow, "$.workflow", [("specification", "object"), ("execution", "object")])
    known = check_specification(workflow["specification"], "$.workflow.specification")
    check_execution(workflow["execution"], "$.workflow.execution", set(known))

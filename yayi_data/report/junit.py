"""JUnit XML, which every CI reads: a suite a file, a case a problem."""

from xml.etree import ElementTree as ET

from yayi_data.checking import FileFacts, ValidateResult
from yayi_data.console import visible
from yayi_data.report.words import place
from yayi_data.types import Problem, Severity


def junit(result: ValidateResult) -> str:
    """Return the report as XML; warnings are cases that pass, unless warnings fail the run."""
    suites = ET.Element("testsuites", name="yayi-data validate")
    for file in result.files:
        _suite(suites, file, [p for p in result.problems if p.path == file.path], strict=result.strict)
    suites.set("tests", str(len(suites.findall(".//testcase"))))
    suites.set("failures", str(len(suites.findall(".//failure"))))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _suite(parent: ET.Element, file: FileFacts, problems: list[Problem], *, strict: bool) -> None:
    failing = [p for p in problems if strict or p.severity is Severity.ERROR]
    suite = ET.SubElement(parent, "testsuite", name=visible(file.path))
    suite.set("tests", str(len(problems) or 1))
    suite.set("failures", str(len(failing)))
    if not problems:
        ET.SubElement(suite, "testcase", classname=visible(file.path), name=f"{file.records} records")
    for problem in problems:
        _case(suite, problem, fails=strict or problem.severity is Severity.ERROR)


def _case(suite: ET.Element, problem: Problem, *, fails: bool) -> None:
    name = f"{problem.rule} {problem.line}:{problem.column}"
    case = ET.SubElement(suite, "testcase", classname=visible(problem.path), name=name)
    case.set("file", visible(problem.path))
    case.set("line", str(problem.line))
    told = f"{place(problem)}: {problem.rule} {problem.pointer} {problem.message}"
    if fails:
        message = visible(problem.message)
        ET.SubElement(case, "failure", type=problem.rule, message=message).text = visible(told)
    else:
        ET.SubElement(case, "system-out").text = visible(f"warning: {told}")

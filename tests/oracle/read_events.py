"""The scalars of a run's folder as TensorBoard itself reads them: {tag: [[step, value], …]} as JSON.

    python tests/oracle/read_events.py RUN         without TensorBoard the exit code is 77
"""
import json
import sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    sys.exit(77)

run = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()  # 0: every point, not a sample
print(json.dumps({tag: [[s.step, s.value] for s in run.Scalars(tag)] for tag in run.Tags()["scalars"]}))

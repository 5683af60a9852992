// All elements of Runcast: importing this module defines them.

import { RunControls } from "./controls.js";
import { RunDraft } from "./draft.js";
import { RunLog } from "./log.js";
import { RunOutput } from "./output.js";
import { RunPanel } from "./panel.js";
import { RunPicture } from "./picture.js";
import { RunProgress } from "./progress.js";
import { RunQuestions } from "./questions.js";
import { RunTimeline } from "./timeline.js";

// The parts before the panel that makes them.
customElements.define("run-progress", RunProgress);
customElements.define("run-draft", RunDraft);
customElements.define("run-output", RunOutput);
customElements.define("run-controls", RunControls);
customElements.define("run-questions", RunQuestions);
customElements.define("run-log", RunLog);
customElements.define("run-timeline", RunTimeline);
customElements.define("run-picture", RunPicture);
customElements.define("run-panel", RunPanel);

export { RunControls, RunDraft, RunLog, RunOutput, RunPanel, RunPicture, RunProgress, RunQuestions, RunTimeline };

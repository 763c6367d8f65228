// The measures of hepkan.metrics on the embedded events, weights included.

/** Return the weighted area under the ROC curve; ties count half. */
export function auc(target: Float64Array, score: Float64Array, weight: Float64Array): number {
  const order = Array.from(score.keys()).sort((a, b) => score[b] - score[a]);
  let [signal, background, area] = [0, 0, 0];
  for (let start = 0; start < order.length; ) {
    const [before, under] = [signal, background];
    let end = start;
    for (; end < order.length && score[order[end]] === score[order[start]]; end++) {
      if (target[order[end]] === 1) signal += weight[order[end]];
      else background += weight[order[end]];
    }
    area += ((background - under) * (signal + before)) / 2;
    start = end;
  }
  return area / (signal * background);
}

/** Return the weighted share of events whose largest probability is that of their class; `(n, classes)`. */
export function accuracy(target: Float64Array, score: Float64Array, weight: Float64Array): number {
  const classes = score.length / target.length;
  let [right, total] = [0, 0];
  for (let n = 0; n < target.length; n++) {
    let best = 0;
    for (let c = 1; c < classes; c++) if (score[n * classes + c] > score[n * classes + best]) best = c;
    right += best === target[n] ? weight[n] : 0;
    total += weight[n];
  }
  return right / total;
}

/** Return the weighted mean absolute error of each target over its scale, averaged over the targets; `(n, targets)`. */
export function mae(target: Float64Array, score: Float64Array, weight: Float64Array, scale: number[]): number {
  const total = weight.reduce((sum, one) => sum + one, 0);
  let found = 0;
  for (let t = 0; t < scale.length; t++) {
    let sum = 0;
    for (let n = 0; n < weight.length; n++) sum += weight[n] * Math.abs(score[n * scale.length + t] - target[n * scale.length + t]);
    found += sum / total / scale[t];
  }
  return found / scale.length;
}

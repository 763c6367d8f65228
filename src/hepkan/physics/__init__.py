"""From a generator card to selected events: generation, detector, selection, observables."""

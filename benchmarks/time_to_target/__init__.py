"""Steps and seconds to a training loss, for every optimizer that needs no tuning."""

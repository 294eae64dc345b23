"""What happens when there is no place: waiting in order, and shedding before it comes to that."""
